"""Repeated and concurrent requests with the same idempotency key have one effect and one response."""

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

CONCURRENCY = 200


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request, tmp_path_factory):
    """A server without a supervisor, on each kind of database."""
    url = request.getfixturevalue("postgres").new_database() if request.param == "postgresql" else ""
    limits = RateLimitSettings(write=1_000_000, read=1_000_000)
    with ApiServer(
        tmp_path_factory.mktemp("server") / "data", database_url=url, supervise=False, rate_limits=limits
    ) as server:
        yield server


@pytest.fixture
def someone(server):
    return server.caller()


def runs_of(server, caller):
    with server.app.state.database.read() as session:
        mine = select(func.count()).select_from(RunRecord).where(RunRecord.account_id == caller.account_id)
        return session.scalar(mine)


def run_request(caller, media):
    prompt_id, video_id = caller.prompt(), caller.video(media / "c.png")
    return {"prompt_id": prompt_id, "target": {"type": "videos", "video_ids": [video_id]}}


def post_concurrently(caller, path, body, keys):
    """Send one POST per key at the same time; return the responses."""
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
        responses = post_concurrently(caller, "/prompt-runs/execute", body, [f"round-{number}"] * CONCURRENCY)
        assert {response.status_code for response in responses} == {202}
        assert len({response.content for response in responses}) == 1
        assert runs_of(server, caller) == number + 1


def test_concurrent_identical_posts_start_one_run(server, someone, api_media):
    race(server, someone, api_media, rounds=3)


@pytest.mark.slow
def test_concurrent_identical_posts_start_one_run_in_fifty_rounds(server, someone, api_media):
    race(server, someone, api_media, rounds=50)


def test_concurrent_different_keys_start_different_runs(server, someone, api_media):
    body = run_request(someone, api_media)
    responses = post_concurrently(someone, "/prompt-runs/execute", body, [f"key-{n % 10}" for n in range(40)])
    assert {response.status_code for response in responses} == {202}
    assert len({response.json()["run_id"] for response in responses}) == runs_of(server, someone) == 10


def test_equivalent_json_gets_the_first_response(someone):
    first = someone.post("/indexes", {"name": "one", "description": None}, key="k")
    spaced = someone.post(
        "/indexes",
        content=b'{ "description" : null,\n "name":"\\u006fne" }',
        headers={"Content-Type": "application/json"},
        key="k",
    )
    assert (spaced.status_code, spaced.content) == (first.status_code, first.content) == (201, first.content)
    assert len(ok_json(someone.get("/indexes"))) == 1


def test_a_key_with_other_content_is_rejected(someone):
    ok_json(someone.post("/prompts", MEASURE, key="k"), 201)
    for change in ({"name": "other"}, {"description": "x"}, {"json_schema": {"type": "object"}}):
        assert_error(someone.post("/prompts", {**MEASURE, **change}, key="k"), 409, "idempotency_request_mismatch")
    assert ok_json(someone.get("/prompts"))["total_count"] == 1


def test_a_key_is_bound_to_its_path_and_account(server, someone):
    other = server.caller()
    index_id = ok_json(someone.post("/indexes", {"name": "one"}, key="k"), 201)["index_id"]
    prompt_id = ok_json(someone.post("/prompts", MEASURE, key="k"), 201)["prompt_id"]
    theirs = ok_json(other.post("/indexes", {"name": "one"}, key="k"), 201)
    assert theirs["index_id"] != index_id
    assert theirs["user_id"] == other.account_id
    second = someone.prompt({**MEASURE, "name": "second"})
    for path in (prompt_id, second):
        ok_json(someone.put(f"/prompts/{path}", json={"description": "new"}, headers={"Idempotency-Key": "k"}))


def test_api_keys_of_an_account_share_idempotency_keys(server, someone):
    colleague = server.caller("write", account_id=someone.account_id)
    first = ok_json(someone.post("/indexes", {"name": "one"}, key="k"), 201)
    assert ok_json(colleague.post("/indexes", {"name": "one"}, key="k"), 201) == first


def test_a_failure_is_not_stored(someone, api_media):
    prompt_id = someone.prompt()
    target = {"type": "playground"}
    assert_error(someone.execute(prompt_id, target, key="k"), 422, "validation_failed")
    someone.video(api_media / "c.png")
    run = ok_json(someone.execute(prompt_id, target, key="k"), 202)
    assert ok_json(someone.execute(prompt_id, target, key="k"), 202) == run


def test_cancelling_again_gets_the_first_response(someone, api_media):
    body = run_request(someone, api_media)
    run_id = ok_json(someone.post("/prompt-runs/execute", body), 202)["run_id"]
    first = ok_json(someone.post(f"/prompt-runs/{run_id}/cancel", key="k"))
    assert first["status"] == "cancelled"
    assert ok_json(someone.post(f"/prompt-runs/{run_id}/cancel", key="k")) == first
    assert ok_json(someone.post(f"/prompt-runs/{run_id}/cancel")) == first


def test_uploads_are_compared_by_content(server, someone, api_media):
    before = len(server.uploads())
    first = someone.upload(api_media / "a.mp4", key="k")
    again = someone.upload(api_media / "a.mp4", key="k")  # with another boundary
    assert first.request.headers["Content-Type"] != again.request.headers["Content-Type"]
    assert first.content == again.content
    assert_error(someone.upload(api_media / "b.flac", title="a.mp4", key="k"), 409, "idempotency_request_mismatch")
    assert_error(someone.upload(api_media / "a.mp4", title="b", key="k"), 409, "idempotency_request_mismatch")
    assert len(server.uploads()) == before + 1
    assert len(ok_json(someone.get("/playground/videos"))["data"]) == 1


def test_concurrent_identical_uploads_store_one_file(server, someone, api_media):
    before = len(server.uploads())
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: someone.upload(api_media / "c.png", key="k"), range(8)))
    assert {response.status_code for response in responses} == {201}
    assert len({response.content for response in responses}) == 1
    assert len(server.uploads()) == before + 1
    assert list((server.data / "tmp").iterdir()) == []


def test_a_key_is_1_to_255_characters(someone):
    ok_json(someone.post("/indexes", {"name": "one"}, key="k" * 255), 201)
    assert_error(someone.post("/indexes", {"name": "one"}, key="k" * 256), 422, "validation_failed")
    empty = {"Idempotency-Key": ""}
    assert_error(someone.post("/indexes", {"name": "one"}, headers=empty), 422, "validation_failed")


def test_a_stored_response_expires_after_a_day(server, someone):
    first = ok_json(someone.post("/indexes", {"name": "one"}, key="k"), 201)
    with server.app.state.database.write() as session:
        for record in session.scalars(
            select(IdempotentAnswer).where(IdempotentAnswer.account_id == someone.account_id)
        ):
            record.created_at = record.created_at.replace(year=record.created_at.year - 1)
    second = ok_json(someone.post("/indexes", {"name": "another"}, key="k"), 201)
    assert second["index_id"] != first["index_id"]
