"""Why the calls of a run wait, and why they were halted, as clients see it."""

import time

import pytest

from promptreel.api.runs.statuses import FINAL
from tests.api_server import DESCRIBE, MODEL, ApiServer, ok_json
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import make_video

pytest_plugins = ["tests.api_fixtures"]

QUOTA = "You exceeded your current quota. Quota exceeded for metric: free_tier_requests, limit: 0"


@pytest.fixture
def gemini(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    with FakeGemini() as gemini:
        yield gemini


@pytest.fixture
def caller(gemini, tmp_path):
    with ApiServer(tmp_path / "data", model_base_url=gemini.base_url, max_outage_s=4) as server:
        yield server.caller()


def states_until_the_end(caller, run_id):
    """Poll a run until it has ended; return (different states in order, the run)."""
    states = [caller.run(run_id)]
    while states[-1]["status"] not in FINAL:
        time.sleep(0.2)
        states.append(caller.run(run_id))
    return states, states[-1]


def test_quota_of_zero_is_named_while_waiting_and_at_the_end(caller, gemini, api_media):
    gemini.set_faults(Fault(status=429, message=QUOTA, retry_delay=0.1))
    video_id = caller.video(api_media / "a.mp4")
    target = {"type": "videos", "video_ids": [video_id]}
    run_id = caller.start(caller.prompt(DESCRIBE), target, processing_model=MODEL)
    states, run = states_until_the_end(caller, run_id)
    waiting = [state for state in states if state["service_state"]]
    assert waiting
    for state in waiting:
        assert state["status"] == "processing"
        assert QUOTA in state["service_state"]
        assert state["service_state"] in state["warnings"]
    assert waiting[0]["service_state"].startswith("rate limited since ")
    assert (run["status"], run["service_state"]) == ("failed", None)
    assert QUOTA in run["error_message"]
    assert QUOTA in run["status_text"]

    gemini.set_faults()
    retry = ok_json(caller.post(f"/prompt-runs/{run_id}/retry-failures", {}), 202)
    assert caller.wait_for_retry(run_id, retry["retry_id"])["status"] == "completed"
    assert caller.run(run_id)["status"] == "completed"
    assert gemini.ledger.repeated() == 0


def test_overload_is_named_with_the_next_probe_until_it_is_over(caller, gemini, tmp_path):
    gemini.set_faults(Fault(status=503, message="The model is overloaded.", until_s=4))
    target = {"type": "videos", "video_ids": [caller.video(make_video(tmp_path / "long.mp4", 20, sound=False))]}
    run_id = caller.start(caller.prompt(DESCRIBE), target, processing_model=MODEL)
    states, run = states_until_the_end(caller, run_id)
    texts = [state["service_state"] for state in states if state["service_state"]]
    assert any(
        text.startswith("service overloaded since ") and "next probe at" in text and "The model is overloaded." in text
        for text in texts
    )
    assert (run["status"], run["service_state"], run["warnings"]) == ("completed", None, [])
