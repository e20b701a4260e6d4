"""What clients read while a run is in progress: finished segments, moving counters, and no misleading empty page."""

import time
from dataclasses import dataclass

import pytest

from promptreel.api.jobs.run_rows import live_summary
from tests.api_server import DESCRIBE, MODEL, ApiServer, assert_error, ok_json
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import make_audio, make_video, promptreel, wait_for

SEGMENTS = 4 + 2
WITHOUT_LEVEL = {key: value for key, value in DESCRIBE.items() if key != "video_level"}


@dataclass
class Progress:
    """A run whose last video segment has no answer yet."""

    server: ApiServer
    gemini: FakeGemini
    caller: object
    run_id: str
    video_id: str
    audio_id: str

    def get(self, path, **query):
        return self.caller.get(path, params=query)

    def results(self, video_id, **query):
        return self.get(f"/prompt-runs/{self.run_id}/results", video_id=video_id, **query)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEMINI_API_KEY", "any")
        with FakeGemini() as gemini:
            data = tmp_path_factory.mktemp("data")
            with ApiServer(data, model_base_url=gemini.base_url, commit_interval_s=0.1) as server:
                yield server, gemini


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    return make_video(folder / "a.mp4", 4, sound=False), make_audio(folder / "b.flac", 2)


def start_held_run(service, media):
    server, gemini = service
    gemini.service.released.clear()
    gemini.set_faults(Fault(text="0:03.00 to 0:04.00", hold=True))
    caller = server.caller()
    video_id, audio_id = [caller.video(path) for path in media]
    run_id = caller.start(caller.prompt(WITHOUT_LEVEL), {"type": "playground"}, processing_model=MODEL)
    return Progress(server, gemini, caller, run_id, video_id, audio_id)


@pytest.fixture(scope="module")
def progress(service, media):
    """See `Progress`. Tests must not modify it."""
    found = start_held_run(service, media)
    wait_for(lambda: time.sleep(0.1) or found.caller.run(found.run_id)["completed_segments"] >= SEGMENTS - 2)
    yield found
    found.gemini.release()
    found.caller.wait(found.run_id)


def test_finished_segments_of_a_run_in_progress_are_listed(progress):
    wait_for(lambda: time.sleep(0.1) or len(progress.results(progress.video_id).json().get("data", ())) == 3, 30)
    page = ok_json(progress.results(progress.video_id))
    assert [row["start_time"] for row in page["data"]] == [0, 1, 2]
    assert all(row["metadata"]["summary"] for row in page["data"])
    assert (page["run_status"], page["is_complete"]) == ("processing", False)
    whole = ok_json(progress.results(progress.audio_id))
    assert (len(whole["data"]), whole["is_complete"]) == (2, True)


def test_segments_of_a_run_in_progress_have_their_status(progress):
    wait_for(lambda: time.sleep(0.1) or len(progress.results(progress.video_id).json().get("data", ())) == 3, 30)
    for query in ({"run_id": progress.run_id}, {"latest_run": True}):
        page = ok_json(progress.get(f"/videos/{progress.video_id}/segments", **query))
        statuses = [row["segment_status"] for row in page["data"]]
        assert statuses == ["successful", "successful", "successful", "pending"]
        assert (page["run_status"], page["is_complete"]) == ("processing", False)
    (status,) = ok_json(progress.get(f"/videos/{progress.video_id}"))["processing_status"]
    counters = [status[f"{name}_segments"] for name in ("total", "successful", "pending", "processing", "failed")]
    assert counters == [4, 3, 1, 0, 0]


def test_items_of_a_run_in_progress_are_counted_when_finished(progress):
    wait_for(lambda: time.sleep(0.1) or progress.caller.run(progress.run_id)["completed_audios"] == 1, 30)
    run = progress.caller.run(progress.run_id)
    assert (run["status"], run["total_segments"], run["completed_segments"]) == ("processing", SEGMENTS, SEGMENTS - 1)
    assert (run["total_videos"], run["completed_videos"]) == (1, 0)


def test_failures_and_calls_of_a_run_in_progress_are_listed(progress):
    body = ok_json(progress.get(f"/prompt-runs/{progress.run_id}/failed-segments"))
    assert (body["status"], body["failed_segments"]) == ("processing", 0)
    wait_for(lambda: time.sleep(0.1) or len(progress.get(f"/prompt-runs/{progress.run_id}/llm-calls").json()) >= 5, 30)
    calls = ok_json(progress.get(f"/prompt-runs/{progress.run_id}/llm-calls"))
    assert {call["status"] for call in calls} == {"success"}


def test_sql_reads_named_run_in_progress(progress):
    query = {"query": "SELECT count(*) AS n FROM segments WHERE status = 'succeeded'", "run_ids": [progress.run_id]}
    wait_for(
        lambda: (
            time.sleep(0.1)
            or progress.caller.post("/search/sql/playground", query).json().get("rows") == [{"n": SEGMENTS - 1}]
        ),
        30,
    )
    body = ok_json(progress.caller.post("/search/sql/playground", query))
    assert body["runs_in_progress"] == [progress.run_id]


def test_command_line_shows_run_in_progress(progress):
    data = progress.server.data
    wait_for(lambda: time.sleep(0.1) or progress.caller.run(progress.run_id)["completed_audios"] == 1, 30)
    code, out, err = promptreel("results", progress.run_id, "--data-dir", data)
    assert code == 0, err
    assert out.count("summary") == SEGMENTS - 1
    assert f"run {progress.run_id} is in progress: {SEGMENTS - 1} of {SEGMENTS} segments" in err
    code, out, err = promptreel(
        "sql", "SELECT count(*) AS n FROM results", "--run", progress.run_id, "--data-dir", data
    )
    assert (code, f"{SEGMENTS - 1}" in out, "is in progress" in err) == (0, True, True)
    code, out, err = promptreel("runs", "--data-dir", data, "--json")
    assert '"status": "running"' in out


def test_page_of_a_run_without_finished_segments_is_a_conflict(service, media):
    server, gemini = service
    gemini.service.released.clear()
    gemini.set_faults(Fault(hold=True))
    caller = server.caller()
    video_id = caller.video(media[0])
    run_id = caller.start(caller.prompt(WITHOUT_LEVEL), {"type": "playground"}, processing_model=MODEL)
    try:
        path = f"/prompt-runs/{run_id}/results"
        error = assert_error(caller.get(path, params={"video_id": video_id}), 409, "results_not_ready")
        assert error["details"]["status"] in ("pending", "processing")
        answer = caller.get(f"/videos/{video_id}/segments")
        assert answer.status_code == 409 or answer.json()["data"]
    finally:
        gemini.release()
    caller.wait(run_id)
    page = ok_json(caller.get(path, params={"video_id": video_id}))
    assert (len(page["data"]), page["run_status"], page["is_complete"]) == (4, "completed", True)


def test_cursor_of_an_expired_state_asks_to_start_again(service, media):
    progress = start_held_run(service, media)
    wait_for(lambda: time.sleep(0.1) or len(progress.results(progress.video_id).json().get("data", ())) == 3, 30)
    cursor = ok_json(progress.results(progress.video_id, limit=1))["pagination"]["next_cursor"]
    assert len(ok_json(progress.results(progress.video_id, limit=1, cursor=cursor))["data"]) == 1
    progress.gemini.release()
    progress.caller.wait(progress.run_id)
    error = assert_error(progress.results(progress.video_id, limit=1, cursor=cursor), 422, "validation_failed")
    assert "without a cursor" in error["message"]


def test_counters_of_completed_work_never_decrease_after_a_restart():
    totals = {"total_videos": 2, "total_segments": 0}
    counts = {"segments.total": 8, "segments.succeeded": 5, "media.video.completed": 1, "media.video.failed": 1}
    before = live_summary(totals, {"segments_planned": 8, "field_extraction.succeeded": 6}, counts)
    assert (before["total_segments"], before["completed_segments"], before["completed_videos"]) == (8, 6, 1)
    resumed = live_summary(before, {}, {"segments.total": 4, "segments.succeeded": 2, "media.video.processing": 2})
    assert (resumed["total_segments"], resumed["completed_segments"], resumed["completed_videos"]) == (8, 6, 1)
    assert resumed["failed_videos"] == 0  # a resume repeats failures
    late = live_summary({"total_videos": 1}, {"field_extraction.succeeded": 3}, {})
    assert late["total_segments"] >= late["completed_segments"] == 3
