"""What one run may be made of: a target over a limit is refused before anything is stored, and can still be estimated."""

import pytest

from tests.api_server import DESCRIBE, MODEL, WINDOWS, ApiServer, assert_error, ok_json

pytest_plugins = ["tests.api_fixtures"]


@pytest.fixture
def ask(monkeypatch, tmp_path, api_media):
    """Starts a run over 3 s of video and 2 s of sound in windows of a second, on a service with these limits."""
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    servers = []

    def ask(model="signals", **limits):
        server = ApiServer(tmp_path / "data", supervise=False, model_base_url="http://127.0.0.1:9", **limits)
        servers.append(server.__enter__())
        caller = server.caller()
        caller.video(api_media / "a.mp4")
        caller.video(api_media / "b.flac")
        prompt_id = caller.prompt(DESCRIBE) if model == MODEL else caller.prompt()
        body = {"prompt_id": prompt_id, "target": {"type": "playground"}, "processing_model": model, **WINDOWS}
        return caller, body, caller.post("/prompt-runs/execute", body, key="once")

    yield ask
    for server in servers:
        server.__exit__()


@pytest.mark.parametrize(
    ("limits", "said_of_it"),
    [
        ({"max_run_items": 1}, "2 items exceed the limit of one run (1)"),
        ({"max_run_segments": 4}, "at least 5 segments, more than one run may have (4)"),
        ({"max_run_tokens": 500, "model": MODEL}, "one run may use 500"),
    ],
)
def test_a_target_over_a_limit_is_refused_and_nothing_is_stored(ask, limits, said_of_it):
    caller, _, answer = ask(**limits)
    error = assert_error(answer, 422, "validation_failed")
    assert said_of_it in error["message"]
    assert ok_json(caller.get("/prompt-runs")) == []


@pytest.mark.parametrize(
    "limits",
    [
        {"max_run_items": 2},
        {"max_run_segments": 5},
        {"max_run_tokens": 100_000, "model": MODEL},
        {"max_run_tokens": 1},  # a model that measures takes none
    ],
)
def test_a_target_at_a_limit_is_accepted(ask, limits):
    _, _, answer = ask(**limits)
    assert ok_json(answer, 202)["status"] == "pending"


@pytest.mark.parametrize(
    ("limits", "kind"), [({"max_run_segments": 4}, "segments"), ({"max_run_tokens": 500, "model": MODEL}, "tokens")]
)
def test_an_estimate_says_which_limit_would_be_met(ask, limits, kind):
    caller, body, _ = ask(**limits)
    answer = ok_json(caller.post("/prompt-runs/estimate", body))
    within = answer["breakdown"]["prompt_run_estimate"]["limits"]["within"]
    assert [name for name, fits in within.items() if not fits] == [kind]
    assert answer["sufficient_balance"] is False
