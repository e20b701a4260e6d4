"""Retries of a finished run repeat only its failures and update the run."""

import pytest

from tests.api_server import DESCRIBE, MODEL, ApiServer, assert_error, ok_json
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import make_audio, make_video, plain_rows

pytest_plugins = ["tests.api_fixtures"]

FAULTS = (
    Fault(text="0:01.00 to 0:02.00", answer="malformed"),
    Fault(text="0:02.00 to 0:03.00", finish_reason="SAFETY"),
)


@pytest.fixture(scope="module")
def server_with_model(tmp_path_factory):
    """A server with a fake model service."""
    with pytest.MonkeyPatch.context() as patch, FakeGemini() as gemini:
        patch.setenv("GEMINI_API_KEY", "any")
        folder = tmp_path_factory.mktemp("retries")
        with ApiServer(folder / "data", model_base_url=gemini.base_url, max_running=3) as server:
            server.gemini = gemini
            yield server


@pytest.fixture(scope="module")
def finished_runs(server_with_model, tmp_path_factory):
    """Three equal finished runs: (caller, run id, video id) by name. Each run is changed by one test.

    Each has a video with three segments, of which the second has failed retryably and the third permanently, and an
    audio file with two segments, of which the second has failed retryably.
    """
    folder = tmp_path_factory.mktemp("media")
    films = make_video(folder / "a.mp4", seconds=3), make_audio(folder / "b.flac", seconds=2)
    server_with_model.gemini.set_faults(*FAULTS)
    runs = {}
    for name in ("still_failing", "one_segment", "all_failures"):
        caller = server_with_model.caller()
        index_id = caller.index()
        video_id, _ = [caller.video(film, index_id) for film in films]
        # Results of equal prompts would be reused.
        prompt_id = caller.prompt({**DESCRIBE, "prompt_text": f"Describe it for {name}."})
        target = {"type": "index", "index_id": index_id}
        runs[name] = (caller, caller.start(prompt_id, target, processing_model=MODEL), video_id)
    for caller, run_id, _ in runs.values():
        run = caller.wait(run_id)
        assert (run["status"], run["field_extraction_failures"]) == ("completed_with_failures", 3)
    server_with_model.gemini.set_faults()
    return runs


def failures_of(caller, run_id):
    """Return whether each failed segment is retryable, by (video id, segment id)."""
    body = ok_json(caller.get(f"/prompt-runs/{run_id}/failed-segments"))
    return {(v["video_id"], s["segment_id"]): s["retryable"] for v in body["videos"] for s in v["segments"]}


def test_segment_retry_updates_the_result_counters_and_synthesis(server_with_model, finished_runs):
    caller, run_id, video_id = finished_runs["one_segment"]
    before = caller.run(run_id)
    results = ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video_id}"))["data"]
    synthesis = ok_json(caller.get(f"/prompt-runs/{run_id}/videos/{video_id}/video-result"))
    segment_id = results[1]["segment_id"]
    page = ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video_id}&limit=1"))
    calls = len(server_with_model.gemini.ledger.entries)

    path = f"/prompt-runs/{run_id}/videos/{video_id}/segments/{segment_id}/retry"
    retry = ok_json(caller.post(path, key="once"), 202)
    assert (retry["status"], retry["idempotency_key"], retry["segment_id"]) == ("pending", "once", segment_id)
    assert ok_json(caller.post(path, key="once"), 202) == retry
    assert_error(caller.post(path), 409, "retry_in_progress")
    state = caller.wait_for_retry(run_id, retry["retry_id"])
    assert (state["status"], state["error"], state["field_extraction_succeeded"]) == ("completed", None, True)
    one = f"/prompt-runs/{run_id}/videos/{video_id}/segments/{segment_id}/retries/{retry['retry_id']}"
    assert ok_json(caller.get(one)) == state

    after = caller.run(run_id)
    assert after["completed_segments"] == before["completed_segments"] + 1
    assert after["field_extraction_failures"] == 2
    assert after["status"] == "completed_with_failures"
    now = ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video_id}"))["data"]
    assert [row["field_extraction_succeeded"] for row in now] == [True, True, False]
    assert now[0] == results[0]
    assert now[1]["metadata"]["summary"]
    again = ok_json(caller.get(f"/prompt-runs/{run_id}/videos/{video_id}/video-result"))
    assert again["successful_segment_count"] == synthesis["successful_segment_count"] + 1
    assert again["source_fingerprint"] != synthesis["source_fingerprint"]
    assert len(server_with_model.gemini.ledger.entries) == calls + 2  # the segment, and the synthesis of its item
    # A cursor from before the retry still shows the earlier results.
    rest = ok_json(
        caller.get(
            f"/prompt-runs/{run_id}/results",
            params={"video_id": video_id, "cursor": page["pagination"]["next_cursor"]},
        )
    )["data"]
    assert [row["field_extraction_succeeded"] for row in rest] == [False, False]
    assert_error(caller.post(path), 409, "segment_not_failed")


def test_retry_of_selected_and_of_all_retryable_failures(server_with_model, finished_runs):
    caller, run_id, video_id = finished_runs["all_failures"]
    path = f"/prompt-runs/{run_id}/retry-failures"
    assert_error(caller.post(path, {"operations": ["transcription"]}), 409, "nothing_to_retry")
    assert_error(caller.post(path, {"codes": ["model_timeout"]}), 409, "nothing_to_retry")
    assert_error(caller.post(path, {"video_ids": ["vid_none"]}), 404, "resource_video_not_found")
    assert_error(caller.post(path, {"operations": ["wish"]}), 422, "validation_failed")
    before = failures_of(caller, run_id)
    assert sorted(before.values()) == [False, True, True]
    selection = {"operations": ["field_extraction"], "codes": ["answer_not_json"], "video_ids": [video_id]}
    retry = ok_json(caller.post(path, selection), 202)
    assert caller.wait_for_retry(run_id, retry["retry_id"])["status"] == "completed"
    remaining = failures_of(caller, run_id)
    assert {key: flag for key, flag in before.items() if key not in remaining} == {
        key: True for key in before if key[0] == video_id and before[key]
    }
    rest = ok_json(caller.post(path, {}), 202)
    assert caller.wait_for_retry(run_id, rest["retry_id"])["status"] == "completed"
    assert failures_of(caller, run_id) == {key: False for key, retryable in before.items() if not retryable}
    assert_error(caller.post(path, {}), 409, "nothing_to_retry")
    run = caller.run(run_id)
    assert (run["completed_audios"], run["partial_videos"]) == (1, 1)
    assert run["completed_segments"] == 4
    assert len(plain_rows(server_with_model.data, run_id, "results")) == 4


def test_failed_retry_reports_an_error_and_keeps_the_run(server_with_model, finished_runs):
    caller, run_id, _ = finished_runs["still_failing"]
    server_with_model.gemini.set_faults(*FAULTS)
    segment = next(key for key, retryable in failures_of(caller, run_id).items() if retryable)
    before = caller.run(run_id)
    retry = ok_json(caller.post(f"/prompt-runs/{run_id}/videos/{segment[0]}/segments/{segment[1]}/retry"), 202)
    state = caller.wait_for_retry(run_id, retry["retry_id"])
    server_with_model.gemini.set_faults()
    assert state["status"] == "failed"
    assert state["error"]
    assert state["field_extraction_succeeded"] is False
    after = caller.run(run_id)
    assert after["status"] == before["status"]
    assert after["completed_segments"] == before["completed_segments"]
    assert segment in failures_of(caller, run_id)


def test_invalid_retry_is_rejected(finished_runs):
    caller, run_id, video_id = finished_runs["still_failing"]
    good = ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video_id}"))["data"][0]["segment_id"]
    base = f"/prompt-runs/{run_id}/videos/{video_id}/segments"
    assert_error(caller.post(f"{base}/{good}/retry"), 409, "segment_not_failed")
    assert_error(caller.post(f"{base}/seg_none/retry"), 404, "resource_segment_not_found")
    assert_error(
        caller.post(f"/prompt-runs/{run_id}/videos/vid_none/segments/{good}/retry"), 404, "resource_video_not_found"
    )
    assert_error(
        caller.post(f"/prompt-runs/run_none/videos/{video_id}/segments/{good}/retry"), 404, "resource_run_not_found"
    )
    assert_error(caller.get(f"/prompt-runs/{run_id}/retries/retry_none"), 404, "resource_retry_not_found")
    assert_error(caller.get("/prompt-runs/run_none/retries/retry_none"), 404, "resource_run_not_found")
