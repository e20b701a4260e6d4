"""Runs of the command line that are in progress, are killed or have failed segments, as a service shows them."""

import json
import os
import signal

from tests.api_server import ApiServer, assert_error, ok_json
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import make_video, promptreel, run_media, settings_for, start_promptreel, wait_for


def test_run_in_progress_is_followed_cancelled_and_resumed(tmp_path):
    film = make_video(tmp_path / "film.mp4", 8)
    data = tmp_path / "data"
    with FakeGemini(faults=[Fault(delay=1.0)]) as gemini, ApiServer(data) as server:
        caller = server.caller()
        words = ["--data-dir", data, "--base-url", gemini.base_url]
        limits = ["--max-in-flight", "1", "--commit-interval", "0.2"]
        windows = ["--video-segmentation", "fixed", "--video-segment-seconds", "1"]
        child = start_promptreel("run", film, *windows, *words, *limits)
        wait_for(lambda: caller.runs(), 60)
        (run_id,) = caller.runs()
        assert caller.run(run_id)["status"] == "processing"
        wait_for(lambda: caller.run(run_id)["completed_segments"] >= 2, 60)
        assert_error(caller.post(f"/prompt-runs/{run_id}/retry-failures", {}), 409, "run_not_finished")
        ok_json(caller.post(f"/prompt-runs/{run_id}/cancel"))
        assert child.wait(timeout=60) == 130
        run = caller.wait(run_id)
        assert (run["status"], run["total_videos"], run["cancelled_segments"] > 0) == ("cancelled", 1, True)
        assert None not in (run["stop_state"]["observed_at"], run["stop_state"]["completed_at"])
        child = start_promptreel("run", "--resume", run_id, *words, "--max-in-flight", "4")
        wait_for(lambda: caller.run(run_id)["status"] == "processing", 60)
        assert child.wait(timeout=60) == 0
        run = caller.wait(run_id)
        assert (run["status"], run["completed_segments"], run["stop_state"]["requested_at"]) == ("completed", 8, None)
        assert gemini.ledger.repeated() == 0  # finished segments are not called again


def test_killed_run_fails_and_is_never_continued_by_the_service(tmp_path):
    film = make_video(tmp_path / "film.mp4", 6)
    data = tmp_path / "data"
    with FakeGemini(faults=[Fault(delay=1.0)]) as gemini, ApiServer(data) as server:
        caller = server.caller()
        windows = ["--video-segmentation", "fixed", "--video-segment-seconds", "1", "--max-in-flight", "1"]
        words = ["--data-dir", data, "--base-url", gemini.base_url, "--commit-interval", "0.2"]
        child = start_promptreel("run", film, *windows, *words)
        wait_for(lambda: caller.runs(), 60)
        (run_id,) = caller.runs()
        wait_for(lambda: caller.run(run_id)["completed_segments"] >= 1, 60)
        attempt = json.loads(next((data / "runs" / run_id / "attempts").iterdir()).read_text())
        os.kill(attempt["pid"], signal.SIGKILL)
        child.communicate(timeout=60)
        run = caller.wait(run_id)
        assert run["status"] == "failed"
        assert f"promptreel run --resume {run_id}" in run["error_message"]
        assert_error(caller.post(f"/prompt-runs/{run_id}/retry-failures", {}), 409, "run_not_finished")
        assert len(list((data / "runs" / run_id / "attempts").iterdir())) == 1
        code, _, err = promptreel("run", "--resume", run_id, *words, "--max-in-flight", "4")
        assert code == 0, err
        wait_for(lambda: caller.run(run_id)["status"] == "completed", 60)
        assert (caller.run(run_id)["completed_segments"], caller.run(run_id)["error_message"]) == (6, None)


def test_retry_over_the_api_and_then_by_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    film = make_video(tmp_path / "film.mp4", 3)
    data = tmp_path / "data"
    with FakeGemini(faults=[Fault(text="0:01.00 to 0:02.00", answer="malformed")]) as gemini:
        run_id = run_media(data, film, settings_for(gemini))
        with ApiServer(data) as server:
            caller = server.caller()
            wait_for(lambda: run_id in caller.runs(), 30)
            assert caller.run(run_id)["field_extraction_failures"] == 1
            gemini.set_faults()
            retry = ok_json(caller.post(f"/prompt-runs/{run_id}/retry-failures", {}), 202)
            assert caller.wait_for_retry(run_id, retry["retry_id"])["status"] == "completed"
            run = caller.run(run_id)
            assert (run["status"], run["field_extraction_failures"], run["completed_segments"]) == ("completed", 0, 3)
