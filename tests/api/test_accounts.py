"""Nothing of one account is ever seen by another: every route that the API describes is tried with another's ids."""

import json

import pytest

from tests.api_server import DESCRIBE, MEASURE, MODEL, WINDOWS, assert_error, ok_json, operations

pytest_plugins = ["tests.api_fixtures"]

# Routes that name nothing in their path but something in their body or query, and what another account's ids give there.
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
# Lists of the caller's own: another's rows must be absent.
OWN_LISTS = [
    "GET /prompt-runs",
    "GET /prompts",
    "GET /indexes",
    "GET /api-keys",
    "GET /playground/videos",
    "GET /rate-limit/status",
    "GET /exports",
]
# These name no one's resources, or (the stream) are tried in their own test.
OF_NOBODY = {
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
# A signed address works without a key; without its token it gives nothing.
SIGNED = {"GET /videos/{video_id}/content"}
# What some routes need in their query.
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
    """Another account with a prompt and a video of its own, as names for `fill`."""
    caller = service.caller()
    caller.names = {"own_prompt": caller.prompt(), "own_video": caller.video(api_media / "c.png")}
    return caller


@pytest.fixture
def names(world):
    """Every id of the world, by the name that a route's path gives it."""
    results = ok_json(world.caller.get(f"/prompt-runs/{world.run_id}/results?video_id={world.video_id}"))["data"]
    keys = ok_json(world.caller.get("/api-keys"))
    made = {"segment_id": results[2]["segment_id"], "key_id": keys[0]["key_id"], "retry_id": "retry_none"}
    ids = {name: value for name, value in vars(world).items() if name.endswith("_id")}
    return {**ids, **made, "job_id": f"job_{world.video_id}", "webhook_id": "wh_1", "export_id": "exp_1"}


def fill(body, names):
    """A body with ids in place of their names in braces."""
    text = json.dumps(body)
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return json.loads(text)


def snapshot(world):
    """Everything that the world's own account can read of what another might have changed."""
    paths = ["/prompts?active_only=false", "/indexes", "/prompt-runs", "/playground/videos"]
    paths += [f"/indexes/{world.index_id}/videos", f"/prompt-runs/{world.run_id}/failed-segments"]
    keys = [key["key_id"] for key in ok_json(world.caller.get("/api-keys"))]
    return [ok_json(world.caller.get(path)) for path in paths], keys


def test_no_route_gives_or_changes_anything_by_another_accounts_ids(world, other, names):
    before = snapshot(world)
    tried = 0
    for method, template in operations(world.caller):
        operation = f"{method} {template}"
        if operation in (*OF_NOBODY, *OWN_LISTS, *SIGNED) or "search" in operation:
            continue  # search, filters and SQL are held against two accounts in tests of their own
        bodies = IN_BODY.get(operation) or [BODIES.get(operation)]
        assert "{" in template or operation in IN_BODY, f"{operation}: say what another account's ids give there"
        for body in bodies:
            sent = None if body is None else fill(body, {**names, **other.names})
            if sent and "target" in sent:
                sent |= {**WINDOWS, "processing_model": "signals"}
            path = template.format(**names)
            query = QUERIES.get(template.rsplit("/", 1)[-1], lambda names: None)(names)
            response = other.request(method, path, json=sent, params=query)
            assert response.status_code == 404, f"{operation} {sent}: {response.status_code} {response.text}"
            error = assert_error(response, 404, response.json()["error"]["code"])
            assert error["code"] != "endpoint_not_supported"
            tried += 1
    assert tried >= 35
    assert snapshot(world) == before


def test_lists_show_the_callers_own_alone(world, other, names):
    foreign = [value for name, value in names.items() if name not in ("webhook_id", "export_id", "retry_id")]
    for operation in OWN_LISTS:
        text = other.get(operation.removeprefix("GET ")).text
        assert not [value for value in foreign if value in text], operation
    assert other.names["own_video"] in other.get("/playground/videos").text
    both = {"video_ids": [names["video_id"], other.names["own_video"]]}
    for path in ("/videos/batch", "/videos/batch/status", "/videos/batch/segments"):
        rows = ok_json(other.post(path, both))
        assert [row["video_id"] for row in rows] == [other.names["own_video"]]


def test_upload_and_content_keep_accounts_apart(world, other, api_media):
    assert_error(other.upload(api_media / "c.png", world.index_id), 404, "resource_index_not_found")
    path = f"/videos/{world.video_id}/content"
    assert_error(other.get(path), 422, "validation_failed")
    assert_error(other.get(path, params={"expires": 4_000_000_000, "token": "0" * 64}), 403, "link_expired")


def test_the_same_names_and_keys_of_two_accounts_do_not_meet(service, api_media):
    one, two = service.caller(), service.caller()
    for caller in (one, two):
        ok_json(caller.post("/prompts", DESCRIBE, key="same"), 201)
        ok_json(caller.post("/indexes", {"name": "same"}, key="same"), 201)
        ok_json(caller.upload(api_media / "c.png", key="same"), 201)
    for caller in (one, two):
        prompts = ok_json(caller.get("/prompts"))["prompts"]
        assert [prompt["user_id"] for prompt in prompts] == [caller.account_id]
        assert len(ok_json(caller.get("/playground/videos"))["data"]) == 1


def test_an_account_in_the_body_changes_nothing(caller, world):
    body = {**MEASURE, "user_id": world.caller.account_id, "account_id": world.caller.account_id}
    assert ok_json(caller.post("/prompts", body), 201)["user_id"] == caller.account_id


def test_finished_operations_are_reused_within_an_account_and_not_by_another(service, gemini, api_media):
    """The same file and prompt: an account pays for itself, and does not learn that another has asked before."""
    calls = {}
    for who in (service.caller(), service.caller()):
        who.video(api_media / "b.flac")
        prompt_id = who.prompt({**DESCRIBE, "prompt_text": "Describe the segment, for the account that pays."})
        for turn in ("first", "again"):
            run = who.wait(who.start(prompt_id, {"type": "playground"}, processing_model=MODEL))
            assert run["status"] == "completed"
            calls[who.account_id, turn] = (run["model_calls"], run["reused_results"])
    assert [found for (_, turn), found in calls.items() if turn == "first"] == [(3, 0), (3, 0)]
    assert [found for (_, turn), found in calls.items() if turn == "again"] == [(0, 3), (0, 3)]


def test_an_estimate_knows_what_the_account_has_finished_and_the_record_what_was_expected(service, gemini, api_media):
    one, other = service.caller(), service.caller()
    for who in (one, other):
        who.video(api_media / "b.flac")
    text = {**DESCRIBE, "prompt_text": "Describe the segment, and say what it costs."}
    prompts = {who: who.prompt(text) for who in (one, other)}
    run = one.wait(one.start(prompts[one], {"type": "playground"}, processing_model=MODEL))
    actual = run["actual_tokens"]["input"]
    assert actual * 0.8 <= run["estimated_input_tokens"] <= actual * 1.5
    found = {}
    for who in (one, other):
        body = {"prompt_id": prompts[who], "target": {"type": "playground"}, "processing_model": MODEL, **WINDOWS}
        estimate = ok_json(who.post("/prompt-runs/estimate", body))["breakdown"]["prompt_run_estimate"]
        found[who] = (estimate["reused_result_count"], estimate["model_call_count"]["most"])
    assert found[other] == (0, run["model_calls"])
    assert found[one][0] == run["completed_segments"] + run["video_level_completed_items"]
    measured = one.wait(one.start(one.prompt(), {"type": "playground"}))
    assert measured["estimated_input_tokens"] == 0
