"""Names, tags and prompt versions of runs over HTTP, on SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from promptreel.api.db.engine import Database
from promptreel.api.db.migrate import migrate
from promptreel.api.runs.prompt_versions import register_version
from promptreel.api.web.auth import create_account
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables.request import read_request
from tests.api_server import DESCRIBE, ApiServer, assert_error, ok_json
from tests.prompts import NESTED

pytest_plugins = ["tests.api_fixtures"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ApiServer(tmp_path_factory.mktemp("labels") / "data") as server:
        yield server


@pytest.fixture
def caller(server):
    return server.caller()


def start(caller, prompt_id, target, **labels):
    body = {"prompt_id": prompt_id, "target": target, **labels}
    return ok_json(caller.post("/prompt-runs/execute", body), 202)


def test_runs_are_listed_by_name_and_tags(server, caller, api_media):
    prompt_id, target = caller.prompt(), {"type": "videos", "video_ids": [caller.video(api_media / "c.png")]}
    one = start(caller, prompt_id, target, name="nightly", tags={"team.a": "red", "goal": "x=y"})
    two = start(caller, prompt_id, target, name="nightly", tags={"team.a": "blue"})
    bare = start(caller, prompt_id, target)
    assert (one["name"], one["tags"], bare["name"], bare["tags"]) == (
        "nightly",
        {"team.a": "red", "goal": "x=y"},
        None,
        {},
    )
    for query, expected in (
        ("", [bare, two, one]),
        ("?name=nightly", [two, one]),
        ("?name=night", []),
        ("?tag=team.a=red", [one]),
        ("?tag=goal=x%3Dy&tag=team.a=red&name=nightly", [one]),
        ("?tag=goal=x%3Dy&tag=team.a=blue", []),
    ):
        listed = ok_json(caller.get(f"/prompt-runs{query}"))
        assert [run["run_id"] for run in listed] == [run["run_id"] for run in expected], query
    assert ok_json(server.caller().get("/prompt-runs?name=nightly")) == []
    caller.wait(one["run_id"])
    labels = read_request(server.app.state.storage, one["run_id"]).labels
    assert (labels.name, labels.tags) == ("nightly", {"team.a": "red", "goal": "x=y"})


def test_pages_of_an_index_are_filtered_by_tag(caller, api_media):
    index_id = caller.index()
    target = {"type": "videos", "video_ids": [caller.video(api_media / "c.png", index_id)], "index_id": index_id}
    prompt_id = caller.prompt()
    marked = [start(caller, prompt_id, target, tags={"n": "1"})["run_id"] for _ in range(2)]
    start(caller, prompt_id, target)
    path = f"/indexes/{index_id}/prompt-runs?limit=1&tag=n=1"
    first = ok_json(caller.get(path))
    cursor = first["pagination"]["next_cursor"]
    second = ok_json(caller.get(f"{path}&cursor={cursor}"))
    assert [page["data"][0]["run_id"] for page in (first, second)] == marked[::-1]
    assert second["pagination"]["has_more"] is False
    assert_error(caller.get(f"/indexes/{index_id}/prompt-runs?limit=1&cursor={cursor}"), 422, "validation_failed")


def test_invalid_labels_are_rejected_with_their_value(caller):
    target = {"type": "playground"}
    for labels, problem in (
        ({"name": "x" * 101}, "name has 101 characters"),
        ({"tags": {"a b": "1"}}, "'a b'"),
        ({"tags": {"a": 1}}, "tags"),
    ):
        answer = caller.post("/prompt-runs/execute", {"prompt_id": "p", "target": target, **labels})
        assert_error(answer, 422, "validation_failed")
        assert problem in answer.text
    assert_error(caller.get("/prompt-runs?tag=red"), 422, "validation_failed")


def test_prompt_versions_follow_the_content_of_a_name(server, caller, api_media):
    prompt = ok_json(caller.post("/prompts", DESCRIBE), 201)
    path = f"/prompts/{prompt['prompt_id']}"
    changed = ok_json(caller.put(path, json={"description": "Changed."}))
    back = ok_json(caller.put(path, json={"description": prompt["description"]}))
    assert [body["version"] for body in (prompt, changed, back)] == [1, 2, 1]
    assert prompt["content_id"] == back["content_id"] != changed["content_id"]
    assert ok_json(caller.get(path))["version"] == 1
    assert [body["version"] for body in ok_json(caller.get("/prompts"))["prompts"]] == [1]
    assert ok_json(server.caller().post("/prompts", {**DESCRIBE, "description": "Other."}), 201)["version"] == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_transactions_at_once_get_different_version_numbers(kind, request, tmp_path):
    if kind == "postgresql":
        url = request.getfixturevalue("postgres").new_database().replace("postgresql://", "postgresql+psycopg://")
    else:
        url = f"sqlite:///{tmp_path / 'promptreel.db'}"
    database = Database(url)
    migrate(database)
    with database.write() as session:
        account_id = create_account(session, "any").account_id

    def register(number):
        prompt = prompt_from_dict({**NESTED.to_dict(), "description": f"variant {number % 4}"})
        with database.write() as session:
            return register_version(session, account_id, prompt)

    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(register, range(12)))
    database.close()
    assert sorted(set(numbers)) == [1, 2, 3, 4]
    assert all(len({numbers[at] for at in range(12) if at % 4 == content}) == 1 for content in range(4))
