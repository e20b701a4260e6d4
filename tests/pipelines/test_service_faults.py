"""Runs against a service that is down for a while, grants no call, or rejects every request alike."""

import json
import threading
import time

import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.tables.progress import read_service_states
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import (
    check_counts,
    create_run,
    make_video,
    manifest_of,
    plain_rows,
    promptreel,
    run_media,
    settings_for,
)

SEGMENTS, CALLS = 24, 25  # one call is the synthesis
LOCATION = "User location is not supported for the API use."
SCHEMA = "The specified schema produces a constraint that has too many states for serving."
QUOTA = "You exceeded your current quota. Quota exceeded for metric: generate_content_free_tier_requests, limit: 0"
REJECTIONS = {
    "location": Fault(status=400, status_name="FAILED_PRECONDITION", message=LOCATION),
    "schema": Fault(status=400, message=SCHEMA),
    "permission": Fault(status=403, message="Permission denied on the project"),
    "key": Fault(status=400, reason="API_KEY_INVALID", message="API key not valid."),
    "model": Fault(status=404, message="models/x is not found"),
    "quota 0": Fault(status=429, message=QUOTA, quota_id="PerMinute", quota_value="0", retry_delay=0.1),
    "quota 0 in details": Fault(status=429, message="Resource exhausted", quota_id="PerMinute", quota_value="0"),
}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", SEGMENTS, sound=False)


def settings(server, **calls):
    return settings_for(server, media_input="frames", **calls)


def states_of(data, run_id, seconds):
    """Return the texts of the states that a run publishes within `seconds`, in a list that a thread fills."""
    seen, storage = [], open_storage(data)

    def poll():
        until = time.monotonic() + seconds
        while time.monotonic() < until and manifest_of(data, run_id) is None:
            seen.extend(state.describe(time.time()) for state in read_service_states(storage, run_id))
            time.sleep(0.1)

    threading.Thread(target=poll, daemon=True).start()
    return seen


@pytest.mark.parametrize("fault", [Fault(status=503, until_s=12), Fault(reset=True, until_s=12)], ids=["503", "reset"])
def test_run_survives_an_outage_longer_than_its_attempts(tmp_path, film, fault):
    with FakeGemini(faults=[fault]) as server:
        run_id = create_run(tmp_path, film, settings(server))
        seen = states_of(tmp_path, run_id, 60)
        execute_run(str(tmp_path), run_id)
        assert manifest_of(tmp_path, run_id).status == "completed"
        assert len(plain_rows(tmp_path, run_id, "results")) == SEGMENTS
        assert len(server.ledger.answered()) == CALLS
        assert len(server.ledger.calls()) <= CALLS + SEGMENTS + 10
    assert any(text.startswith("service ") and "next probe in" in text for text in seen)
    assert read_service_states(open_storage(tmp_path), run_id) == []
    check_counts(tmp_path, run_id)


@pytest.mark.parametrize(("name", "in_flight"), [*((name, 8) for name in REJECTIONS), ("schema", 1), ("quota 0", 1)])
def test_resume_does_everything_after_the_cause_is_fixed(tmp_path, film, name, in_flight):
    with FakeGemini(faults=[REJECTIONS[name]]) as server:
        run_id = run_media(tmp_path, film, settings(server, max_in_flight=in_flight, max_outage_s=1))
        assert len(server.ledger.calls()) <= 2 + in_flight
        rows = check_counts(tmp_path, run_id)
        assert len([row for row in rows["failures"] if row["segment_id"]]) == SEGMENTS
        assert {row["retryable"] for row in rows["failures"]} == {True}
        assert (REJECTIONS[name].message or "RESOURCE_EXHAUSTED") in manifest_of(tmp_path, run_id).error_message
        server.set_faults()
        code, _, err = promptreel("run", "--resume", run_id, "--data-dir", tmp_path)
        assert code == 0, err
        assert len(server.ledger.answered()) == CALLS
    assert manifest_of(tmp_path, run_id).status == "completed"


def test_permission_lost_in_the_middle_leaves_nothing_final(tmp_path, film):
    with FakeGemini(faults=[Fault(after=10, status=400, message=SCHEMA)]) as server:
        run_id = run_media(tmp_path, film, settings(server, max_in_flight=1))
        assert len(server.ledger.calls()) == 13
        failures = check_counts(tmp_path, run_id)["failures"]
        assert {row["retryable"] for row in failures} == {True}
        server.set_faults()
        promptreel("run", "--resume", run_id, "--data-dir", tmp_path)
        assert len(server.ledger.answered()) == CALLS
        assert server.ledger.repeated() == 0
    assert manifest_of(tmp_path, run_id).status == "completed"


def test_rejection_of_one_segment_stays_final(tmp_path, film):
    with FakeGemini(faults=[Fault(text="0:03.00 to 0:04.00", status=400, message=SCHEMA)]) as server:
        run_id = run_media(tmp_path, film, settings(server))
    failures = [row for row in check_counts(tmp_path, run_id)["failures"] if row["segment_id"]]
    assert [(row["code"], row["retryable"]) for row in failures] == [("model_bad_request", False)]


def run_command(server, data, film, *words):
    """Run a film in segments of 2 s; return (exit code, summary, lines of progress)."""
    words = ["--model", "gemini-3-flash-preview", "--media-input", "frames", *words]
    words += ["--video-segmentation", "fixed", "--video-segment-seconds", 2]
    code, out, err = promptreel("run", film, *words, "--base-url", server.base_url, "--data-dir", data, "--json")
    return code, json.loads(out), err.splitlines()


def failures_of(summary):
    return {(row["code"], row["retryable"]) for row in summary["failures"] if row["segment_id"]}


def test_outage_beyond_the_patience_halts_the_run(tmp_path, film):
    with FakeGemini(faults=[Fault(status=503, message="The model is overloaded.")]) as server:
        code, summary, lines = run_command(server, tmp_path, film, "--max-outage", 4)
        assert (code, failures_of(summary)) == (1, {("model_unavailable", True)})
        halted = "calls halted: HTTP 503 UNAVAILABLE: The model is overloaded."
        assert any(halted in line for line in lines)
        assert halted in summary["error_message"]
        assert len(server.ledger.calls()) <= 40


def test_quota_of_zero_is_named_while_waiting_and_at_the_end(tmp_path, film):
    with FakeGemini(faults=[Fault(status=429, message=QUOTA, retry_delay=0.1)]) as server:
        code, summary, lines = run_command(server, tmp_path, film, "--max-outage", 10)
        assert (code, failures_of(summary)) == (1, {("quota_exhausted", True)})
        named = f"HTTP 429 RESOURCE_EXHAUSTED: {QUOTA}"
        assert any("; rate limited since " in line and line.endswith(named) for line in lines)
        assert f"calls halted: {named}" in summary["error_message"]
