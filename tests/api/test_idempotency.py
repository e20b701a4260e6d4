"""The same request with the same key has one effect and one answer, however often and however at once it comes."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest
from sqlalchemy import func, select

from promptreel.api.config import RateLimitSettings
from promptreel.api.db.models import IdempotentAnswer, RunRecord
from tests.api_server import MEASURE, ApiServer, assert_error, ok_json

pytest_plugins = ["tests.api_fixtures"]

AT_ONCE = 200


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def served(request, tmp_path_factory):
    """A server that executes nothing, over each kind of database."""
    url = request.getfixturevalue("postgres").new_database() if request.param == "postgresql" else ""
    limits = RateLimitSettings(write=1_000_000, read=1_000_000)
    with ApiServer(
        tmp_path_factory.mktemp("served") / "data", database_url=url, supervise=False, rate_limits=limits
    ) as server:
        yield server


@pytest.fixture
def someone(served):
    return served.caller()


def runs_of(server, caller):
    with server.app.state.database.read() as session:
        mine = select(func.count()).select_from(RunRecord).where(RunRecord.account_id == caller.account_id)
        return session.scalar(mine)


def run_request(caller, media):
    prompt_id, video_id = caller.prompt(), caller.video(media / "c.png")
    return {"prompt_id": prompt_id, "target": {"type": "videos", "video_ids": [video_id]}}


def post_at_once(caller, path, body, keys):
    """The answers to posts that begin together, one for each key."""
    ready = threading.Barrier(len(keys))
    limits = httpx.Limits(max_connections=len(keys))
    headers = {"X-API-Key": caller.key, "Content-Type": "application/json"}
    content = json.dumps(body)
    with httpx.Client(base_url=caller.http.base_url, timeout=120, limits=limits) as client:

        def post(key):
            ready.wait()
            return client.post(path, content=content, headers={**headers, "Idempotency-Key": key})

        with ThreadPoolExecutor(len(keys)) as pool:
            return list(pool.map(post, keys))


def race(server, caller, media, rounds):
    body = run_request(caller, media)
    for number in range(rounds):
        answers = post_at_once(caller, "/prompt-runs/execute", body, [f"round-{number}"] * AT_ONCE)
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.content for answer in answers}) == 1
        assert runs_of(server, caller) == number + 1


def test_identical_posts_at_once_start_one_run(served, someone, api_media):
    race(served, someone, api_media, rounds=3)


@pytest.mark.slow
def test_identical_posts_at_once_start_one_run_each_of_fifty_times(served, someone, api_media):
    race(served, someone, api_media, rounds=50)


def test_different_keys_at_once_start_different_runs(served, someone, api_media):
    body = run_request(someone, api_media)
    answers = post_at_once(someone, "/prompt-runs/execute", body, [f"key-{n % 10}" for n in range(40)])
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["run_id"] for answer in answers}) == runs_of(served, someone) == 10


def test_a_second_post_with_the_same_key_has_the_first_answer_however_it_is_written(someone):
    first = someone.post("/indexes", {"name": "one", "description": None}, key="k")
    spaced = someone.post(
        "/indexes",
        content=b'{ "description" : null,\n "name":"\\u006fne" }',
        headers={"Content-Type": "application/json"},
        key="k",
    )
    assert (spaced.status_code, spaced.content) == (first.status_code, first.content) == (201, first.content)
    assert len(ok_json(someone.get("/indexes"))) == 1


def test_the_same_key_with_other_content_is_refused_and_changes_nothing(someone):
    ok_json(someone.post("/prompts", MEASURE, key="k"), 201)
    for change in ({"name": "other"}, {"description": "x"}, {"json_schema": {"type": "object"}}):
        assert_error(someone.post("/prompts", {**MEASURE, **change}, key="k"), 409, "idempotency_request_mismatch")
    assert ok_json(someone.get("/prompts"))["total_count"] == 1


def test_a_key_belongs_to_its_path_and_account(served, someone):
    other = served.caller()
    index_id = ok_json(someone.post("/indexes", {"name": "one"}, key="k"), 201)["index_id"]
    prompt_id = ok_json(someone.post("/prompts", MEASURE, key="k"), 201)["prompt_id"]
    theirs = ok_json(other.post("/indexes", {"name": "one"}, key="k"), 201)
    assert theirs["index_id"] != index_id
    assert theirs["user_id"] == other.account_id
    second = someone.prompt({**MEASURE, "name": "second"})
    for path in (prompt_id, second):
        ok_json(someone.put(f"/prompts/{path}", json={"description": "new"}, headers={"Idempotency-Key": "k"}))


def test_two_keys_of_one_account_share_their_idempotency(served, someone):
    colleague = served.caller("write", account_id=someone.account_id)
    first = ok_json(someone.post("/indexes", {"name": "one"}, key="k"), 201)
    assert ok_json(colleague.post("/indexes", {"name": "one"}, key="k"), 201) == first


def test_a_failure_is_not_kept(someone, api_media):
    prompt_id = someone.prompt()
    target = {"type": "playground"}
    assert_error(someone.execute(prompt_id, target, key="k"), 422, "validation_failed")
    someone.video(api_media / "c.png")
    run = ok_json(someone.execute(prompt_id, target, key="k"), 202)
    assert ok_json(someone.execute(prompt_id, target, key="k"), 202) == run


def test_a_cancelled_run_is_told_as_it_was_at_the_first_cancel(someone, api_media):
    body = run_request(someone, api_media)
    run_id = ok_json(someone.post("/prompt-runs/execute", body), 202)["run_id"]
    first = ok_json(someone.post(f"/prompt-runs/{run_id}/cancel", key="k"))
    assert first["status"] == "cancelled"
    assert ok_json(someone.post(f"/prompt-runs/{run_id}/cancel", key="k")) == first
    assert ok_json(someone.post(f"/prompt-runs/{run_id}/cancel")) == first


def test_an_upload_is_compared_by_what_is_in_it_and_keeps_one_file(served, someone, api_media):
    before = len(served.uploads())
    first = someone.upload(api_media / "a.mp4", key="k")
    again = someone.upload(api_media / "a.mp4", key="k")  # with another boundary
    assert first.request.headers["Content-Type"] != again.request.headers["Content-Type"]
    assert first.content == again.content
    assert_error(someone.upload(api_media / "b.flac", title="a.mp4", key="k"), 409, "idempotency_request_mismatch")
    assert_error(someone.upload(api_media / "a.mp4", title="b", key="k"), 409, "idempotency_request_mismatch")
    assert len(served.uploads()) == before + 1
    assert len(ok_json(someone.get("/playground/videos"))["data"]) == 1


def test_identical_uploads_at_once_keep_one_file(served, someone, api_media):
    before = len(served.uploads())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: someone.upload(api_media / "c.png", key="k"), range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len(served.uploads()) == before + 1
    assert list((served.data / "tmp").iterdir()) == []


def test_a_key_is_1_to_255_characters(someone):
    ok_json(someone.post("/indexes", {"name": "one"}, key="k" * 255), 201)
    assert_error(someone.post("/indexes", {"name": "one"}, key="k" * 256), 422, "validation_failed")
    empty = {"Idempotency-Key": ""}
    assert_error(someone.post("/indexes", {"name": "one"}, headers=empty), 422, "validation_failed")


def test_a_kept_answer_is_forgotten_after_a_day(served, someone):
    first = ok_json(someone.post("/indexes", {"name": "one"}, key="k"), 201)
    with served.app.state.database.write() as session:
        for record in session.scalars(
            select(IdempotentAnswer).where(IdempotentAnswer.account_id == someone.account_id)
        ):
            record.created_at = record.created_at.replace(year=record.created_at.year - 1)
    second = ok_json(someone.post("/indexes", {"name": "another"}, key="k"), 201)
    assert second["index_id"] != first["index_id"]
