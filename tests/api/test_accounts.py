"""Account isolation: every route of the OpenAPI schema is called with the ids of another account."""

import json

import pytest

from tests.api_server import DESCRIBE, MEASURE, MODEL, WINDOWS, assert_error, ok_json, operations

pytest_plugins = ["tests.api_fixtures"]

# Routes with ids only in their body: bodies with ids of another account.
IN_BODY = {
    "POST /prompt-runs/execute": [
        {"prompt_id": "{prompt_id}", "target": {"type": "index", "index_id": "{index_id}"}},
        {"prompt_id": "{own_prompt}", "target": {"type": "index", "index_id": "{index_id}"}},
        {"prompt_id": "{own_prompt}", "target": {"type": "videos", "video_ids": ["{playground_id}"]}},
        {"prompt_id": "{own_prompt}", "target": {"type": "videos", "video_ids": ["{own_video}", "{playground_id}"]}},
    ],
    "POST /videos": [{"title": "t", "video_uri": "file:///none", "index_id": "{index_id}"}],
    "POST /videos/signed-url": [{"gcs_uri": "media://{video_id}"}],
    "POST /videos/batch/segments": [{"targets": [{"video_id": "{own_video}", "run_id": "{run_id}"}]}],
}
IN_BODY["POST /prompt-runs/estimate"] = IN_BODY["POST /prompt-runs/execute"]
# Lists of the caller: they must not contain rows of another account.
OWN_LISTS = [
    "GET /prompt-runs",
    "GET /prompts",
    "GET /indexes",
    "GET /api-keys",
    "GET /playground/videos",
    "GET /rate-limit/status",
    "GET /exports",
]
# Routes without ids, or covered by their own tests (the stream).
WITHOUT_IDS = {
    "POST /prompts",
    "POST /prompts/test-schema",
    "POST /indexes",
    "POST /api-keys",
    "POST /rate-limit/refresh",
    "GET /auth/validate",
    "POST /auth/processing-activity",
    "GET /processing/events/stream",
    "POST /videos/upload",
    "POST /videos/batch",
    "POST /videos/batch/status",
}
# Signed URLs work without a key, but not without a token.
SIGNED = {"GET /videos/{video_id}/content"}
# Required query parameters by the end of the path.
QUERIES = {
    "results": lambda names: {"video_id": names["video_id"]},
    "diff": lambda names: {"other_run_id": names["run_id"]},
}
BODIES = {
    "PUT /prompts/{prompt_id}": {"description": "taken over"},
    "POST /prompt-runs/{run_id}/retry-failures": {},
}


@pytest.fixture
def other(service, api_media, world):
    """Another account with a prompt and a video; `names` are for `fill`."""
    caller = service.caller()
    caller.names = {"own_prompt": caller.prompt(), "own_video": caller.video(api_media / "c.png")}
    return caller


@pytest.fixture
def names(world):
    """The ids of the world, by path parameter."""
    results = ok_json(world.caller.get(f"/prompt-runs/{world.run_id}/results?video_id={world.video_id}"))["data"]
    keys = ok_json(world.caller.get("/api-keys"))
    others = {"segment_id": results[2]["segment_id"], "key_id": keys[0]["key_id"], "retry_id": "retry_none"}
    ids = {name: value for name, value in vars(world).items() if name.endswith("_id")}
    return {**ids, **others, "job_id": f"job_{world.video_id}", "webhook_id": "wh_1", "export_id": "exp_1"}


def fill(body, names):
    """Replace each `{name}` in a body by its id."""
    text = json.dumps(body)
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return json.loads(text)


def snapshot(world):
    """Read everything that another account might have changed."""
    paths = ["/prompts?active_only=false", "/indexes", "/prompt-runs", "/playground/videos"]
    paths += [f"/indexes/{world.index_id}/videos", f"/prompt-runs/{world.run_id}/failed-segments"]
    keys = [key["key_id"] for key in ok_json(world.caller.get("/api-keys"))]
    return [ok_json(world.caller.get(path)) for path in paths], keys


def test_ids_of_another_account_are_not_found(world, other, names):
    before = snapshot(world)
    checked = 0
    for method, template in operations(world.caller):
        operation = f"{method} {template}"
        if operation in (*WITHOUT_IDS, *OWN_LISTS, *SIGNED) or "search" in operation:
            continue  # search, filters and SQL have their own tests with two accounts
        bodies = IN_BODY.get(operation) or [BODIES.get(operation)]
        assert "{" in template or operation in IN_BODY, f"{operation}: add it to IN_BODY, WITHOUT_IDS or OWN_LISTS"
        for body in bodies:
            filled = None if body is None else fill(body, {**names, **other.names})
            if filled and "target" in filled:
                filled |= {**WINDOWS, "processing_model": "signals"}
            path = template.format(**names)
            query = QUERIES.get(template.rsplit("/", 1)[-1], lambda names: None)(names)
            response = other.request(method, path, json=filled, params=query)
            assert response.status_code == 404, f"{operation} {filled}: {response.status_code} {response.text}"
            error = assert_error(response, 404, response.json()["error"]["code"])
            assert error["code"] != "endpoint_not_supported"
            checked += 1
    assert checked >= 35
    assert snapshot(world) == before


def test_lists_contain_only_rows_of_the_caller(world, other, names):
    foreign = [value for name, value in names.items() if name not in ("webhook_id", "export_id", "retry_id")]
    for operation in OWN_LISTS:
        text = other.get(operation.removeprefix("GET ")).text
        assert not [value for value in foreign if value in text], operation
    assert other.names["own_video"] in other.get("/playground/videos").text
    both = {"video_ids": [names["video_id"], other.names["own_video"]]}
    for path in ("/videos/batch", "/videos/batch/status", "/videos/batch/segments"):
        rows = ok_json(other.post(path, both))
        assert [row["video_id"] for row in rows] == [other.names["own_video"]]


def test_uploads_and_content_are_isolated_by_account(world, other, api_media):
    assert_error(other.upload(api_media / "c.png", world.index_id), 404, "resource_index_not_found")
    path = f"/videos/{world.video_id}/content"
    assert_error(other.get(path), 422, "validation_failed")
    assert_error(other.get(path, params={"expires": 4_000_000_000, "token": "0" * 64}), 403, "link_expired")


def test_equal_names_and_keys_of_two_accounts_do_not_collide(service, api_media):
    one, two = service.caller(), service.caller()
    for caller in (one, two):
        ok_json(caller.post("/prompts", DESCRIBE, key="same"), 201)
        ok_json(caller.post("/indexes", {"name": "same"}, key="same"), 201)
        ok_json(caller.upload(api_media / "c.png", key="same"), 201)
    for caller in (one, two):
        prompts = ok_json(caller.get("/prompts"))["prompts"]
        assert [prompt["user_id"] for prompt in prompts] == [caller.account_id]
        assert len(ok_json(caller.get("/playground/videos"))["data"]) == 1


def test_an_account_id_in_the_body_is_ignored(caller, world):
    body = {**MEASURE, "user_id": world.caller.account_id, "account_id": world.caller.account_id}
    assert ok_json(caller.post("/prompts", body), 201)["user_id"] == caller.account_id


def test_operations_are_reused_only_within_their_account(service, gemini, api_media):
    """An account does not learn that another one has run the same prompt on the same file."""
    calls = {}
    for account in (service.caller(), service.caller()):
        account.video(api_media / "b.flac")
        prompt_id = account.prompt({**DESCRIBE, "prompt_text": "Describe the segment, for the account that pays."})
        for attempt in ("first", "again"):
            run = account.wait(account.start(prompt_id, {"type": "playground"}, processing_model=MODEL))
            assert run["status"] == "completed"
            calls[account.account_id, attempt] = (run["model_calls"], run["reused_results"])
    assert [found for (_, attempt), found in calls.items() if attempt == "first"] == [(3, 0), (3, 0)]
    assert [found for (_, attempt), found in calls.items() if attempt == "again"] == [(0, 3), (0, 3)]


def test_an_estimate_counts_reused_results_of_its_account(service, gemini, api_media):
    one, other = service.caller(), service.caller()
    for account in (one, other):
        account.video(api_media / "b.flac")
    text = {**DESCRIBE, "prompt_text": "Describe the segment, and say what it costs."}
    prompts = {account: account.prompt(text) for account in (one, other)}
    run = one.wait(one.start(prompts[one], {"type": "playground"}, processing_model=MODEL))
    actual = run["actual_tokens"]["input"]
    assert actual * 0.8 <= run["estimated_input_tokens"] <= actual * 1.5
    found = {}
    for account in (one, other):
        body = {"prompt_id": prompts[account], "target": {"type": "playground"}, "processing_model": MODEL, **WINDOWS}
        estimate = ok_json(account.post("/prompt-runs/estimate", body))["breakdown"]["prompt_run_estimate"]
        found[account] = (estimate["reused_result_count"], estimate["model_call_count"]["most"])
    assert found[other] == (0, run["model_calls"])
    assert found[one][0] == run["completed_segments"] + run["video_level_completed_items"]
    measured = one.wait(one.start(one.prompt(), {"type": "playground"}))
    assert measured["estimated_input_tokens"] == 0
