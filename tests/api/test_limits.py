"""Limits of a run: a target over a limit is rejected before anything is stored, but can be estimated."""

import pytest

from tests.api_server import DESCRIBE, MODEL, WINDOWS, ApiServer, assert_error, ok_json

pytest_plugins = ["tests.api_fixtures"]


@pytest.fixture
def execute(monkeypatch, tmp_path, api_media):
    """Function that executes a run of 3 s of video and 2 s of audio, in segments of a second, with given limits."""
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    servers = []

    def execute(model="signals", **limits):
        server = ApiServer(tmp_path / "data", supervise=False, model_base_url="http://127.0.0.1:9", **limits)
        servers.append(server.__enter__())
        caller = server.caller()
        caller.video(api_media / "a.mp4")
        caller.video(api_media / "b.flac")
        prompt_id = caller.prompt(DESCRIBE) if model == MODEL else caller.prompt()
        body = {"prompt_id": prompt_id, "target": {"type": "playground"}, "processing_model": model, **WINDOWS}
        return caller, body, caller.post("/prompt-runs/execute", body, key="once")

    yield execute
    for server in servers:
        server.__exit__()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_run_items": 1}, "2 items exceed the limit of one run (1)"),
        ({"max_run_segments": 4}, "at least 5 segments exceed the limit of one run (4)"),
        ({"max_run_tokens": 500, "model": MODEL}, "input tokens exceed the limit of one run (500)"),
    ],
)
def test_a_target_over_a_limit_is_rejected(execute, limits, message):
    caller, _, response = execute(**limits)
    error = assert_error(response, 422, "validation_failed")
    assert message in error["message"]
    assert ok_json(caller.get("/prompt-runs")) == []


@pytest.mark.parametrize(
    "limits",
    [
        {"max_run_items": 2},
        {"max_run_segments": 5},
        {"max_run_tokens": 100_000, "model": MODEL},
        {"max_run_tokens": 1},  # the built-in model uses no tokens
    ],
)
def test_a_target_at_a_limit_is_accepted(execute, limits):
    _, _, response = execute(**limits)
    assert ok_json(response, 202)["status"] == "pending"


def test_token_limit_is_left_to_runs_that_share_calls(execute):
    caller, body, _ = execute(max_run_tokens=500, model=MODEL)
    response = caller.post("/prompt-runs/execute", {**body, "segment_options": {"dedupe": True}}, key="twice")
    assert ok_json(response, 202)["status"] == "pending"


@pytest.mark.parametrize(
    ("limits", "kind"), [({"max_run_segments": 4}, "segments"), ({"max_run_tokens": 500, "model": MODEL}, "tokens")]
)
def test_an_estimate_names_the_exceeded_limit(execute, limits, kind):
    caller, body, _ = execute(**limits)
    response = ok_json(caller.post("/prompt-runs/estimate", body))
    within = response["breakdown"]["prompt_run_estimate"]["limits"]["within"]
    assert [name for name, fits in within.items() if not fits] == [kind]
    assert response["sufficient_balance"] is False
