"""What failed in a finished run is tried again, alone, and the run is brought up to date."""

import pytest

from tests.api_server import DESCRIBE, MODEL, ApiServer, assert_error, ok_json
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import make_audio, make_video, plain_rows

pytest_plugins = ["tests.api_fixtures"]

POISON = (
    Fault(text="0:01.00 to 0:02.00", answer="malformed"),
    Fault(text="0:02.00 to 0:03.00", finish_reason="SAFETY"),
)


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """A server and the made-up model service behind it."""
    with pytest.MonkeyPatch.context() as patch, FakeGemini() as gemini:
        patch.setenv("GEMINI_API_KEY", "any")
        folder = tmp_path_factory.mktemp("retries")
        with ApiServer(folder / "data", model_base_url=gemini.base_url, max_running=3) as server:
            server.gemini = gemini
            yield server


@pytest.fixture(scope="module")
def ended(serving, tmp_path_factory):
    """Three equal runs, by the name of who may change them: (caller, run id, video id). Of a video of three segments the
    second has failed retryably and the third for good, and of an audio of two the second has failed."""
    folder = tmp_path_factory.mktemp("media")
    films = make_video(folder / "a.mp4", seconds=3), make_audio(folder / "b.flac", seconds=2)
    serving.gemini.set_faults(*POISON)
    runs = {}
    for name in ("nobody", "one", "all"):
        caller = serving.caller()
        index_id = caller.index()
        video_id, _ = [caller.video(film, index_id) for film in films]
        # What another run has asked is remembered by its prompt.
        prompt_id = caller.prompt({**DESCRIBE, "prompt_text": f"Describe it for {name}."})
        target = {"type": "index", "index_id": index_id}
        runs[name] = (caller, caller.start(prompt_id, target, processing_model=MODEL), video_id)
    for caller, run_id, _ in runs.values():
        run = caller.wait(run_id)
        assert (run["status"], run["field_extraction_failures"]) == ("completed_with_failures", 3)
    serving.gemini.set_faults()
    return runs


def failures_of(caller, run_id):
    """(video id, segment id) to whether it may be retried."""
    body = ok_json(caller.get(f"/prompt-runs/{run_id}/failed-segments"))
    return {(v["video_id"], s["segment_id"]): s["retryable"] for v in body["videos"] for s in v["segments"]}


def test_a_segment_is_tried_again_and_result_counters_and_synthesis_follow(serving, ended):
    caller, run_id, video_id = ended["one"]
    before = caller.run(run_id)
    results = ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video_id}"))["data"]
    synthesis = ok_json(caller.get(f"/prompt-runs/{run_id}/videos/{video_id}/video-result"))
    segment_id = results[1]["segment_id"]
    page = ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video_id}&limit=1"))
    calls = len(serving.gemini.ledger.entries)

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
    assert len(serving.gemini.ledger.entries) == calls + 2  # the segment, and the synthesis of its item
    # A list that was begun before goes on over what it began with.
    rest = ok_json(
        caller.get(
            f"/prompt-runs/{run_id}/results",
            params={"video_id": video_id, "cursor": page["pagination"]["next_cursor"]},
        )
    )["data"]
    assert [row["field_extraction_succeeded"] for row in rest] == [False, False]
    assert_error(caller.post(path), 409, "segment_not_failed")


def test_failures_are_chosen_by_operation_code_and_item_or_all_retryable_ones_are_taken(serving, ended):
    caller, run_id, video_id = ended["all"]
    path = f"/prompt-runs/{run_id}/retry-failures"
    assert_error(caller.post(path, {"operations": ["transcription"]}), 409, "nothing_to_retry")
    assert_error(caller.post(path, {"codes": ["model_timeout"]}), 409, "nothing_to_retry")
    assert_error(caller.post(path, {"video_ids": ["vid_none"]}), 409, "nothing_to_retry")
    assert_error(caller.post(path, {"operations": ["wish"]}), 422, "validation_failed")
    before = failures_of(caller, run_id)
    assert sorted(before.values()) == [False, True, True]
    chosen = {"operations": ["field_extraction"], "codes": ["answer_not_json"], "video_ids": [video_id]}
    retry = ok_json(caller.post(path, chosen), 202)
    assert caller.wait_for_retry(run_id, retry["retry_id"])["status"] == "completed"
    left = failures_of(caller, run_id)
    assert {place: flag for place, flag in before.items() if place not in left} == {
        place: True for place in before if place[0] == video_id and before[place]
    }
    rest = ok_json(caller.post(path, {}), 202)
    assert caller.wait_for_retry(run_id, rest["retry_id"])["status"] == "completed"
    assert failures_of(caller, run_id) == {place: False for place, retryable in before.items() if not retryable}
    assert_error(caller.post(path, {}), 409, "nothing_to_retry")
    run = caller.run(run_id)
    assert (run["completed_audios"], run["partial_videos"]) == (1, 1)
    assert run["completed_segments"] == 4
    assert len(plain_rows(serving.data, run_id, "results")) == 4


def test_a_retry_that_fails_again_says_why_and_leaves_the_run_as_it_was(serving, ended):
    caller, run_id, _ = ended["nobody"]
    serving.gemini.set_faults(*POISON)
    place = next(key for key, retryable in failures_of(caller, run_id).items() if retryable)
    before = caller.run(run_id)
    retry = ok_json(caller.post(f"/prompt-runs/{run_id}/videos/{place[0]}/segments/{place[1]}/retry"), 202)
    state = caller.wait_for_retry(run_id, retry["retry_id"])
    serving.gemini.set_faults()
    assert state["status"] == "failed"
    assert state["error"]
    assert state["field_extraction_succeeded"] is False
    after = caller.run(run_id)
    assert after["status"] == before["status"]
    assert after["completed_segments"] == before["completed_segments"]
    assert place in failures_of(caller, run_id)


def test_what_cannot_be_retried_is_refused(ended):
    caller, run_id, video_id = ended["nobody"]
    good = ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video_id}"))["data"][0]["segment_id"]
    base = f"/prompt-runs/{run_id}/videos/{video_id}/segments"
    assert_error(caller.post(f"{base}/{good}/retry"), 409, "segment_not_failed")
    assert_error(caller.post(f"{base}/seg_none/retry"), 404, "resource_segment_not_found")
    assert_error(
        caller.post(f"/prompt-runs/{run_id}/videos/vid_none/segments/{good}/retry"), 404, "resource_segment_not_found"
    )
    assert_error(
        caller.post(f"/prompt-runs/run_none/videos/{video_id}/segments/{good}/retry"), 404, "resource_run_not_found"
    )
    assert_error(caller.get(f"/prompt-runs/{run_id}/retries/retry_none"), 404, "resource_retry_not_found")
