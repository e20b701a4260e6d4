"""A stopped run starts no new calls, commits calls in flight and consistent counts; a resume repeats no calls."""

import json
import signal
import subprocess
import time

import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.tables.stop_signal import clear_stop, request_stop
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import (
    check_counts,
    comparable_rows,
    create_run,
    kill_runner_after,
    make_video,
    manifest_of,
    promptreel,
    run_media,
    start_promptreel,
    start_runner,
    wait_for,
)
from tests.pipelines.conftest import frame_settings
from tests.prompts import NESTED

MAX_DELAY_S = 5.0
# The stop file is polled twice a second, with two calls of 0.4 s in flight.
MAX_LATE_CALLS = 6


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    # Silent videos sent as frames need no clips, so many calls are cheap.
    make_video(folder / "a.mp4", 20, sound=False)
    make_video(folder / "b.mp4", 12, "smptebars", sound=False)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(media, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    with FakeGemini() as server:
        return comparable_rows(data, run_media(data, media, frame_settings(server)))


def check_stopped(data, run_id, server, stopped_at, calls_before):
    """Check that a run is cancelled, its counts add up and no call started late; return its rows."""
    rows = check_counts(data, run_id)
    manifest = manifest_of(data, run_id)
    counts = manifest.counts
    assert manifest.status == "cancelled"
    assert counts["segments.total"] == sum(
        counts.get(f"segments.{name}", 0) for name in ("succeeded", "failed", "cancelled")
    )
    assert counts.get("segments.cancelled", 0) + counts.get("media.cancelled", 0) > 0
    assert rows["failures"] == []
    assert all(entry.arrived_at <= stopped_at + MAX_DELAY_S for entry in server.ledger.calls())
    assert len(server.ledger.calls()) <= calls_before + MAX_LATE_CALLS < counts["segments.total"]
    assert len(rows["results"]) <= len(server.ledger.answered())
    return rows


@pytest.mark.parametrize("method", ["stop file", "SIGTERM"])
def test_stopped_run_commits_and_resume_calls_only_the_rest(tmp_path, media, uninterrupted, method):
    with FakeGemini(latency_s=0.4) as server:
        run_id = create_run(tmp_path, media, frame_settings(server, max_in_flight=2))
        child = start_runner(tmp_path, run_id)
        wait_for(lambda: len(server.ledger.answered()) >= 3)
        stopped_at, calls_before = time.monotonic(), len(server.ledger.calls())
        if method == "SIGTERM":
            child.send_signal(signal.SIGTERM)
        else:
            request_stop(open_storage(tmp_path), run_id, "test")
        child.communicate(timeout=60)
        assert child.returncode == 0
        rows = check_stopped(tmp_path, run_id, server, stopped_at, calls_before)
        assert len(rows["results"]) >= 3
        server.service.latency_s = 0.0
        clear_stop(open_storage(tmp_path), run_id)
        execute_run(str(tmp_path), run_id)
        assert manifest_of(tmp_path, run_id).status == "completed"
        assert comparable_rows(tmp_path, run_id) == uninterrupted
        assert server.ledger.repeated() == 0


def test_run_stopped_before_start_commits_without_calls(tmp_path, media):
    with FakeGemini() as server:
        run_id = create_run(tmp_path, media, frame_settings(server))
        request_stop(open_storage(tmp_path), run_id, "test")
        execute_run(str(tmp_path), run_id)
        assert server.ledger.calls() == []
    counts = manifest_of(tmp_path, run_id).counts
    assert manifest_of(tmp_path, run_id).status == "cancelled"
    assert counts["media.cancelled"] == counts["media.total"] == 2
    check_counts(tmp_path, run_id)


def test_ctrl_c_exits_with_130_and_commits(tmp_path, media):
    prompt = tmp_path / "prompt.json"
    prompt.write_text(json.dumps(NESTED.to_dict()))
    data = tmp_path / "data"
    with FakeGemini(latency_s=0.4) as server:
        child = start_promptreel(
            "run", media, "--prompt", prompt, "--model", DEFAULT_GEMINI_MODEL, "--base-url", server.base_url,
            "--data-dir", data, "--max-in-flight", 2, "--video-segmentation", "fixed", "--video-segment-seconds", 1,
            "--media-input", "frames",
        )  # fmt: skip
        wait_for(lambda: len(server.ledger.answered()) >= 2)
        stopped_at, calls_before = time.monotonic(), len(server.ledger.calls())
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
        assert child.returncode == 130, err
        (folder,) = (data / "runs").iterdir()
        rows = check_stopped(data, folder.name, server, stopped_at, calls_before)
        assert "stopping: waiting for calls in progress" in err
        assert "cancelled" in out
        assert f"run --resume {folder.name}" in out
        server.service.latency_s = 0.0
        done = len(rows["results"])
        code, out, err = promptreel("run", "--resume", folder.name, "--data-dir", data, "--json")
        assert code == 0, err
        assert json.loads(out)["status"] == "completed"
        assert server.ledger.repeated() == 0
        assert len(server.ledger.answered()) == 32 + 2
        assert done < 32


def test_runner_without_parent_stops_and_commits(tmp_path, media):
    with FakeGemini(latency_s=0.4) as server:
        run_id = create_run(tmp_path, media, frame_settings(server, max_in_flight=2))
        child = start_runner(tmp_path, run_id, "--stop-with-parent", stdin=subprocess.PIPE)
        wait_for(lambda: len(server.ledger.answered()) >= 2)
        stopped_at, calls_before = time.monotonic(), len(server.ledger.calls())
        child.stdin.close()
        child.stdin = None
        child.communicate(timeout=60)
        assert child.returncode == 0
        check_stopped(tmp_path, run_id, server, stopped_at, calls_before)


@pytest.mark.parametrize("answers", [1, 5])
def test_stop_after_a_crash_commits_every_recorded_answer(tmp_path, media, answers):
    """Both the cached answers and the one that is only in the call log."""
    with FakeGemini() as server:
        run_id = create_run(tmp_path, media, frame_settings(server, max_in_flight=1), NESTED)
        kill_runner_after(answers, tmp_path, run_id)
        request_stop(open_storage(tmp_path), run_id, "test")
        called = len(server.ledger.calls())
        assert execute_run(str(tmp_path), run_id).status == "cancelled"
        assert len(server.ledger.calls()) == called
    rows = check_counts(tmp_path, run_id)
    assert len(rows["results"]) == answers
    assert rows["failures"] == []


def test_stopped_run_decodes_nothing(tmp_path, media):
    with FakeGemini() as server:
        run_id = create_run(tmp_path, media, frame_settings(server), NESTED)
        request_stop(open_storage(tmp_path), run_id, "test")
        assert execute_run(str(tmp_path), run_id).status == "cancelled"
    assert not (tmp_path / "cache" / "analysis").exists()
