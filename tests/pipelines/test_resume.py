"""A runner killed at any time and then resumed repeats at most the calls in flight, and produces the same tables as an
uninterrupted run."""

import fcntl
import json
import random
import threading

import pytest

from promptreel.media.ffmpeg import VARIABLE, ffmpeg_candidates, find_ffmpeg
from promptreel.pipelines.runner import execute_run
from promptreel.schemas.errors import CommitConflict
from promptreel.tables.attempts import begin_attempt, is_running, runner_lock
from promptreel.tables.manifest import commit_manifest
from promptreel.tables.run_status import run_status as status_of
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import (
    check_counts,
    comparable_rows,
    create_run,
    kill,
    kill_runner_after,
    make_audio,
    make_video,
    manifest_of,
    plain_rows,
    run_media,
    settings_for,
    start_runner,
    wait_for,
)
from tests.pipelines.conftest import frame_settings
from tests.small_disk import fill, mounted

IN_FLIGHT = 4


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    # Silent videos sent as frames need no clips, so many calls are cheap.
    make_video(folder / "a.mp4", 8, sound=False)
    make_video(folder / "b.mp4", 6, "smptebars", sound=False)
    make_audio(folder / "c.flac", 3)
    return folder


CALLS = 8 + 6 + 3 + 3


@pytest.fixture(scope="module")
def uninterrupted(media, tmp_path_factory):
    """The table contents of an uninterrupted run."""
    data = tmp_path_factory.mktemp("data")
    with FakeGemini() as server:
        run_id = run_media(data, media, frame_settings(server))
        assert len(server.ledger.calls()) == CALLS
        return comparable_rows(data, run_id)


def is_segmenting(data, run_id, server, rng):
    """While items are decoded: an attempt has started, and 0 to 2 analyses are stored."""
    found = list((data / "cache" / "analysis").glob("*/*/analysis.json"))
    return bool(list((data / "runs" / run_id / "attempts").glob("*.json"))) and len(found) >= rng.randrange(3)


def is_halfway(data, run_id, server, rng):
    """After about half of the calls."""
    return len(server.ledger.answered()) >= CALLS // 2 + rng.randint(-5, 5)


def is_between_last_call_and_commit(data, run_id, server, rng):
    """Every call is answered; parts may be incomplete, or complete without a manifest."""
    if len(server.ledger.answered()) < CALLS:
        return False
    parts = list((data / "runs" / run_id / "parts").glob("*/*.parquet"))
    return len(parts) >= rng.choice([0, 0, 1, 3])


KILL_CONDITIONS = [is_segmenting, is_halfway, is_between_last_call_and_commit]


def kill_and_resume(data, media, uninterrupted, condition, seed):
    rng = random.Random(seed)
    with FakeGemini(latency_s=0.05) as server:
        run_id = create_run(data, media, frame_settings(server, max_in_flight=IN_FLIGHT))
        child = start_runner(data, run_id)
        wait_for(lambda: child.poll() is not None or condition(data, run_id, server, rng))
        kill(child)
        in_flight = sum(entry.answered_at is None for entry in server.ledger.calls())
        before = manifest_of(data, run_id)
        assert in_flight <= IN_FLIGHT
        if before is None:
            assert status_of(open_storage(data), run_id, None) == "interrupted"
        execute_run(str(data), run_id)
        after = manifest_of(data, run_id)
        assert after.number == (1 if before is None else before.number + 1)
        assert after.status == "completed"
        assert comparable_rows(data, run_id) == uninterrupted
        rows = check_counts(data, run_id)
        # An answer that was not recorded before the process died counts as in flight and is requested again.
        assert server.ledger.repeated() <= IN_FLIGHT
        assert len(server.ledger.calls()) <= CALLS + IN_FLIGHT
        ended = sum(call["status"] == "success" for call in rows["llm_calls"])
        lost = sum(call["status"] == "interrupted" for call in rows["llm_calls"])
        assert lost <= IN_FLIGHT
        assert ended <= len(server.ledger.answered()) <= ended + lost
    return before


@pytest.mark.parametrize("condition", KILL_CONDITIONS, ids=lambda condition: condition.__name__)
def test_killed_run_resumes_without_repeated_calls(tmp_path, media, uninterrupted, condition):
    kill_and_resume(tmp_path, media, uninterrupted, condition, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 22))
@pytest.mark.parametrize("condition", KILL_CONDITIONS, ids=lambda condition: condition.__name__)
def test_run_killed_at_random_times_resumes_without_repeated_calls(tmp_path, media, uninterrupted, condition, seed):
    kill_and_resume(tmp_path, media, uninterrupted, condition, seed)


def test_repeatedly_killed_run_completes(tmp_path, media, uninterrupted):
    with FakeGemini(latency_s=0.05) as server:
        run_id = create_run(tmp_path, media, frame_settings(server, max_in_flight=IN_FLIGHT))
        for min_calls in (5, 12):
            child = start_runner(tmp_path, run_id)
            wait_for(
                lambda min_calls=min_calls, child=child: (
                    child.poll() is not None or len(server.ledger.calls()) >= min_calls
                )
            )
            kill(child)
        assert manifest_of(tmp_path, run_id) is None
        execute_run(str(tmp_path), run_id)
        assert manifest_of(tmp_path, run_id).number == 1
        assert manifest_of(tmp_path, run_id).attempt == 3
        assert server.ledger.repeated() <= 2 * IN_FLIGHT
        check_counts(tmp_path, run_id)
        assert comparable_rows(tmp_path, run_id) == uninterrupted


def test_resuming_a_complete_run_makes_no_calls(tmp_path, media, uninterrupted):
    with FakeGemini() as server:
        run_id = run_media(tmp_path, media / "a.mp4", frame_settings(server))
        found, calls = comparable_rows(tmp_path, run_id), len(server.ledger.calls())
        results = {row["segment_id"]: row["reused"] for row in plain_rows(tmp_path, run_id, "results")}
        execute_run(str(tmp_path), run_id)
        assert len(server.ledger.calls()) == calls
        assert manifest_of(tmp_path, run_id).number == 2
        assert comparable_rows(tmp_path, run_id) == found
        # Results that this run paid for are not "reused" just because the runner started twice.
        assert {row["segment_id"]: row["reused"] for row in plain_rows(tmp_path, run_id, "results")} == results
        assert not any(results.values())


def test_is_running_check_does_not_block_a_runner(tmp_path):
    storage = open_storage(tmp_path)
    file = tmp_path / "runs" / "run_a" / "runner.lock"
    file.parent.mkdir(parents=True)
    file.touch()
    checker = file.open("rb")
    fcntl.flock(checker, fcntl.LOCK_SH)  # like `is_running`, but for longer
    threading.Timer(0.1, checker.close).start()
    with runner_lock(storage, "run_a"):
        assert is_running(storage, "run_a")
    assert not is_running(storage, "run_a")


def test_attempt_records_the_ffmpeg_version(tmp_path, media):
    used = find_ffmpeg()
    assert used.version
    first = run_media(tmp_path, media / "c.flac", settings_for())
    attempt = json.loads((tmp_path / "runs" / first / "attempts" / "000001.json").read_text())
    assert attempt["ffmpeg"] == {"version": used.version, "source": used.source}


def test_attempt_records_why_ffmpeg_is_unusable(tmp_path, media, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "missing"))
    ffmpeg_candidates.cache_clear()
    try:
        run = run_media(tmp_path, media / "c.flac", settings_for())
    finally:
        ffmpeg_candidates.cache_clear()
    attempt = json.loads((tmp_path / "runs" / run / "attempts" / "000001.json").read_text())
    assert f"{VARIABLE}: {tmp_path / 'missing'} does not run" in attempt["ffmpeg"]["error"]
    assert manifest_of(tmp_path, run).status == "failed"


def test_concurrent_runners_on_an_object_store_commit_in_order(tmp_path):
    storage = open_storage(f"memory://{tmp_path.name}")
    first, second = begin_attempt(storage, "run_a"), begin_attempt(storage, "run_a")
    facts = {"status": "completed", "counts": {}, "parts": []}
    assert commit_manifest(storage, "run_a", attempt=first, token="one", **facts).number == 1
    assert commit_manifest(storage, "run_a", attempt=second, token="two", **facts).number == 2
    with pytest.raises(CommitConflict, match="attempt 1 is stale"):
        commit_manifest(storage, "run_a", attempt=first, token="three", **facts)


@pytest.fixture
def small_disk(tmp_path):
    """A separate file system of 6 MB, mounted during the test."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, 6):
        yield disk


@pytest.mark.parametrize(
    "free_kb", [0, 150, *(pytest.param(kb, marks=pytest.mark.slow) for kb in (20, 40, 80, 250, 400))]
)
def test_run_on_a_full_disk_can_be_resumed(small_disk, media, uninterrupted, free_kb):
    data = small_disk / "data"
    with FakeGemini() as server:
        first = run_media(data, media / "c.flac", frame_settings(server))
        before = comparable_rows(data, first)
        run_id = create_run(data, media, frame_settings(server))
        ballast = fill(small_disk, free_kb * 1024)
        child = start_runner(data, run_id)
        _, err = child.communicate(timeout=60)
        assert comparable_rows(data, first) == before
        manifest = manifest_of(data, run_id)
        if child.returncode == 0:  # there was room for the commit
            failures = check_counts(data, run_id)["failures"]
            assert manifest.status == ("completed_with_failures" if failures else "completed")
            assert all(row["retryable"] for row in failures)
            assert all("No space left" in row["message"] for row in failures)
        else:
            assert "No space left on device" in err.splitlines()[-1]
            assert "free space" in err.splitlines()[-1]
            assert err.splitlines()[-1].startswith("error: ")
        ballast.unlink()
        execute_run(str(data), run_id)
        assert manifest_of(data, run_id).status == "completed"
        assert comparable_rows(data, run_id) == uninterrupted
        assert not list((data / "tmp").iterdir())


def test_commit_only_attempt_stores_results_and_fails_the_rest(tmp_path, media, uninterrupted):
    with FakeGemini() as server:
        run_id = create_run(tmp_path, media, frame_settings(server, max_in_flight=1))
        kill_runner_after(5, tmp_path, run_id)
        called = len(server.ledger.calls())
        manifest = execute_run(str(tmp_path), run_id, commit_only="the runner died 4 times")
        assert manifest.status == "completed_with_failures"
        assert len(server.ledger.calls()) == called
        rows = check_counts(tmp_path, run_id)
        assert len(rows["results"]) == 5
        assert rows["failures"]
        failures = {(row["code"], row["message"], row["retryable"]) for row in rows["failures"]}
        assert failures == {("interrupted", "the runner died 4 times", True)}
        assert {row["status"] for row in rows["media"]} == {"partial", "failed"}
        execute_run(str(tmp_path), run_id)
    assert comparable_rows(tmp_path, run_id) == uninterrupted
