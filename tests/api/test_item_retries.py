"""Failures of an item itself (its synthesis) are listed, and are retried like those of a segment."""

import pytest

from tests.api.supervisor_bench import kill_runners
from tests.api_server import DESCRIBE, MODEL, ApiServer, assert_error, ok_json
from tests.fake_gemini import FakeGemini, Fault
from tests.published_clients import CLIENTS, run_client

pytest_plugins = ["tests.api_fixtures", "tests.api.supervisor_fixtures"]

SYNTHESIS = "Sum the item up"
# List the failures, choose the retryable ones, retry each, and poll until the retry has ended.
FOUR_STEPS = """
import time
manifest = client.prompt_runs.get_failed_segments(given["run_id"])
counts = manifest.operation_counts
states = []
for video in manifest.videos:
    for segment in video.segments:
        if not segment.retryable:
            continue
        retry = client.prompt_runs.retry_segment(given["run_id"], video.video_id, segment.segment_id)
        while True:
            state = client.prompt_runs.get_segment_retry_status(
                given["run_id"], video.video_id, segment.segment_id, retry.retry_id
            )
            if state.status in ("completed", "failed"):
                break
            time.sleep(0.1)
        states.append(state.status)
left = client.prompt_runs.get_failed_segments(given["run_id"])
report(manifest.failed_segments, counts.processing, states, left.failed_segments)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with a fake model service."""
    with pytest.MonkeyPatch.context() as patch, FakeGemini() as gemini:
        patch.setenv("GEMINI_API_KEY", "any")
        folder = tmp_path_factory.mktemp("item-retries")
        with ApiServer(folder / "data", model_base_url=gemini.base_url, max_running=3) as server:
            server.gemini = gemini
            yield server


def finished_run(server, media, name, *faults):
    """Return (caller, run id, video id) of a run of three segments with faults that are then removed."""
    server.gemini.set_faults(*faults)
    caller = server.caller()
    video_id = caller.video(media / "a.mp4")
    prompt_id = caller.prompt({**DESCRIBE, "prompt_text": f"Describe it for {name}."})
    target = {"type": "videos", "video_ids": [video_id]}
    run_id = caller.start(prompt_id, target, processing_model=MODEL)
    caller.wait(run_id)
    server.gemini.set_faults()
    return caller, run_id, video_id


def manifest_of(caller, run_id):
    return ok_json(caller.get(f"/prompt-runs/{run_id}/failed-segments"))


def retry_of(caller, run_id, video_id, segment_id):
    path = f"/prompt-runs/{run_id}/videos/{video_id}/segments/{segment_id}/retry"
    return caller.wait_for_retry(run_id, ok_json(caller.post(path), 202)["retry_id"])


def test_failed_synthesis_is_listed_under_its_items_id(server, api_media):
    fault = Fault(text=SYNTHESIS, answer="malformed")
    caller, run_id, video_id = finished_run(server, api_media, "the list", fault)
    manifest = manifest_of(caller, run_id)
    assert (manifest["videos_with_failures"], manifest["failed_segments"]) == (1, 1)
    (failed,) = manifest["videos"][0]["segments"]
    assert (failed["segment_id"], failed["failure_stage"]) == (video_id, "synthesis")
    assert (failed["failure_code"], failed["retryable"]) == ("answer_not_json", True)
    assert failed["failure_message"]
    assert failed["failed_operations"] == ["processing"]  # clients know only the operations of segments, and this one
    counts = manifest["operation_counts"]
    assert (counts["processing"], counts["synthesis"], counts["field_extraction"]) == (1, 1, 0)
    assert manifest["videos"][0]["operation_counts"] == counts
    calls = len(server.gemini.ledger.entries)
    state = retry_of(caller, run_id, video_id, failed["segment_id"])
    assert (state["status"], state["segment_id"], state["error"]) == ("completed", video_id, None)
    assert len(server.gemini.ledger.entries) == calls + 1
    assert manifest_of(caller, run_id)["videos"] == []
    assert caller.run(run_id)["status"] == "completed"
    again = caller.post(f"/prompt-runs/{run_id}/videos/{video_id}/segments/{video_id}/retry")
    assert_error(again, 409, "segment_not_failed")


@pytest.mark.parametrize("selection", [{"operations": ["synthesis"]}, {"operations": ["processing"]}])
def test_failed_synthesis_can_be_selected_for_retry(server, api_media, selection):
    fault = Fault(text=SYNTHESIS, answer="malformed")
    caller, run_id, video_id = finished_run(server, api_media, f"selection {selection}", fault)
    path = f"/prompt-runs/{run_id}/retry-failures"
    assert_error(caller.post(path, {"operations": ["field_extraction"]}), 409, "nothing_to_retry")
    assert_error(caller.post(path, {"operations": ["text_embedding"]}), 409, "nothing_to_retry")
    selection = {**selection, "codes": ["answer_not_json"], "video_ids": [video_id]}
    retry = ok_json(caller.post(path, selection), 202)
    assert caller.wait_for_retry(run_id, retry["retry_id"])["status"] == "completed"
    assert caller.run(run_id)["status"] == "completed"


def test_retry_of_a_named_blocked_synthesis_calls_it_again(server, api_media):
    fault = Fault(text=SYNTHESIS, finish_reason="SAFETY")
    caller, run_id, video_id = finished_run(server, api_media, "the blocked one", fault)
    (failed,) = manifest_of(caller, run_id)["videos"][0]["segments"]
    assert (failed["failure_code"], failed["retryable"]) == ("model_blocked", False)
    assert retry_of(caller, run_id, video_id, failed["segment_id"])["status"] == "completed"
    assert caller.run(run_id)["status"] == "completed"


def test_synthesis_follows_the_retry_of_every_segment(server, api_media):
    fault = Fault(text="This segment is|0:0[0-9].00 to", answer="malformed")
    caller, run_id, video_id = finished_run(server, api_media, "all segments", fault)
    segments = manifest_of(caller, run_id)["videos"][0]["segments"]
    assert len(segments) == 3
    for number, segment in enumerate(segments, 1):
        assert retry_of(caller, run_id, video_id, segment["segment_id"])["status"] == "completed"
        synthesis = ok_json(caller.get(f"/prompt-runs/{run_id}/videos/{video_id}/video-result"))
        assert synthesis["successful_segment_count"] == number
        assert len(synthesis["omitted_segment_ids"]) == 3 - number
    assert caller.run(run_id)["status"] == "completed"


@pytest.mark.parametrize("version", CLIENTS)
def test_published_client_retries_a_synthesis_in_four_steps(server, api_media, version):
    fault = Fault(text=SYNTHESIS, answer="malformed")
    caller, run_id, _ = finished_run(server, api_media, f"client {version}", fault)
    assert run_client(version, caller, FOUR_STEPS, run_id=run_id) == [1, 1, ["completed"], 0]
    assert caller.run(run_id)["status"] == "completed"


def test_items_of_an_uncommitted_run_are_listed_and_retried(on_sqlite, api_media, no_delays, monkeypatch):
    bench = on_sqlite
    caller = bench.caller
    video_ids = [caller.video(api_media / name) for name in ("b.flac", "c.png")]
    run_id = caller.start(caller.prompt(), {"type": "videos", "video_ids": video_ids})
    kill_runners(monkeypatch, bench.config.max_resumes + 2)
    supervisor = bench.supervisor()
    assert bench.run_to_end(supervisor, run_id).status == "failed"
    manifest = manifest_of(caller, run_id)
    assert manifest["operation_counts"]["processing"] == 2
    listed = [(video["video_id"], part["segment_id"]) for video in manifest["videos"] for part in video["segments"]]
    assert listed == [(video_id, video_id) for video_id in video_ids]
    assert all(part["retryable"] for video in manifest["videos"] for part in video["segments"])
    path = f"/prompt-runs/{run_id}/videos/{video_ids[0]}/segments/{video_ids[0]}/retry"
    retry = ok_json(caller.post(path), 202)
    bench.step_until(supervisor, lambda: caller.retry(run_id, retry["retry_id"])["status"] == "completed")
    run = bench.run(run_id)
    assert run.status == "completed"  # nothing was committed, so the other items are retried too
    assert (run.summary["completed_audios"], run.summary["completed_images"]) == (1, 1)
