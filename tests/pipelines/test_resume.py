"""kill -9 of the runner at any moment, then a resume: nothing is paid twice beyond what was under way, and the tables are
those of a run that nobody disturbed."""

import fcntl
import json
import os
import random
import shutil
import subprocess
import threading

import pytest

from promptreel.cli.read import _status as status_of
from promptreel.media.ffmpeg import VARIABLE, ffmpeg_candidates, find_ffmpeg
from promptreel.pipelines.runner import execute_run
from promptreel.schemas.errors import CommitConflict
from promptreel.tables.attempts import begin_attempt, is_running, runner_lock
from promptreel.tables.manifest import commit_manifest
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

IN_FLIGHT = 4


def frames_to(server, **calls):
    return settings_for(server, media_input="frames", **calls)


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    # Silent films sent as frames: no clip is built for a call, so that many calls cost little.
    make_video(folder / "a.mp4", 8, sound=False)
    make_video(folder / "b.mp4", 6, "smptebars", sound=False)
    make_audio(folder / "c.flac", 3)
    return folder


CALLS = 8 + 6 + 3 + 3


@pytest.fixture(scope="module")
def undisturbed(media, tmp_path_factory):
    """What the tables of a run hold that nobody disturbed."""
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch, FakeGemini() as server:
        patch.setenv("GEMINI_API_KEY", "any")
        run_id = run_media(data, media, frames_to(server))
        assert len(server.ledger.calls()) == CALLS
        return comparable_rows(data, run_id)


def is_segmenting(data, run_id, server, rng):
    """While items are being decoded: at least one attempt has begun, and perhaps some analyses are there."""
    found = list((data / "cache" / "analysis").glob("*/*/analysis.json"))
    return bool(list((data / "runs" / run_id / "attempts").glob("*.json"))) and len(found) >= rng.randrange(3)


def is_halfway(data, run_id, server, rng):
    """Somewhere around half of the calls."""
    return len(server.ledger.answered()) >= CALLS // 2 + rng.randint(-5, 5)


def is_between_last_call_and_commit(data, run_id, server, rng):
    """Every call is answered; parts may be under construction, or named but in no manifest yet."""
    if len(server.ledger.answered()) < CALLS:
        return False
    parts = list((data / "runs" / run_id / "tables").glob("*/*.parquet"))
    return len(parts) >= rng.choice([0, 0, 1, 3])


MOMENTS = [is_segmenting, is_halfway, is_between_last_call_and_commit]


def kill_and_resume(data, media, undisturbed, moment, seed):
    rng = random.Random(seed)
    with FakeGemini(latency_s=0.05) as server:
        run_id = create_run(data, media, frames_to(server, max_in_flight=IN_FLIGHT))
        child = start_runner(data, run_id)
        wait_for(lambda: child.poll() is not None or moment(data, run_id, server, rng))
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
        assert comparable_rows(data, run_id) == undisturbed
        rows = check_counts(data, run_id)
        # An answer that was given, but not yet recorded when the process died, is asked for again: it was in flight as well.
        assert server.ledger.repeated() <= IN_FLIGHT
        assert len(server.ledger.calls()) <= CALLS + IN_FLIGHT
        ended = sum(call["status"] == "success" for call in rows["llm_calls"])
        lost = sum(call["status"] == "interrupted" for call in rows["llm_calls"])
        assert lost <= IN_FLIGHT
        assert ended <= len(server.ledger.answered()) <= ended + lost
    return before


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_a_killed_run_is_resumed_without_paying_twice(tmp_path, media, undisturbed, moment):
    kill_and_resume(tmp_path, media, undisturbed, moment, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 22))
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_a_killed_run_is_resumed_without_paying_twice_whatever_the_moment(tmp_path, media, undisturbed, moment, seed):
    kill_and_resume(tmp_path, media, undisturbed, moment, seed)


def test_a_run_killed_over_and_over_ends_whole(tmp_path, media, undisturbed):
    with FakeGemini(latency_s=0.05) as server:
        run_id = create_run(tmp_path, media, frames_to(server, max_in_flight=IN_FLIGHT))
        for wanted in (5, 12):
            child = start_runner(tmp_path, run_id)
            wait_for(
                lambda wanted=wanted, child=child: child.poll() is not None or len(server.ledger.calls()) >= wanted
            )
            kill(child)
        assert manifest_of(tmp_path, run_id) is None
        execute_run(str(tmp_path), run_id)
        assert manifest_of(tmp_path, run_id).number == 1
        assert manifest_of(tmp_path, run_id).attempt == 3
        assert server.ledger.repeated() <= 2 * IN_FLIGHT
        check_counts(tmp_path, run_id)
        assert comparable_rows(tmp_path, run_id) == undisturbed


def test_resuming_a_complete_run_calls_nothing_and_commits_the_same_rows(tmp_path, media, undisturbed):
    with FakeGemini() as server:
        run_id = run_media(tmp_path, media / "a.mp4", frames_to(server))
        found, calls = comparable_rows(tmp_path, run_id), len(server.ledger.calls())
        results = {row["segment_id"]: row["reused"] for row in plain_rows(tmp_path, run_id, "results")}
        execute_run(str(tmp_path), run_id)
        assert len(server.ledger.calls()) == calls
        assert manifest_of(tmp_path, run_id).number == 2
        assert comparable_rows(tmp_path, run_id) == found
        # What this run paid for is not called reused because the runner started twice.
        assert {row["segment_id"]: row["reused"] for row in plain_rows(tmp_path, run_id, "results")} == results
        assert not any(results.values())


def test_asking_whether_a_run_is_held_never_keeps_a_runner_from_starting(tmp_path):
    storage = open_storage(tmp_path)
    file = tmp_path / "runs" / "run_a" / "runner.lock"
    file.parent.mkdir(parents=True)
    file.touch()
    asker = file.open("rb")
    fcntl.flock(asker, fcntl.LOCK_SH)  # as `is_running` does, only longer
    threading.Timer(0.1, asker.close).start()
    with runner_lock(storage, "run_a"):
        assert is_running(storage, "run_a")
    assert not is_running(storage, "run_a")


def test_the_record_of_a_start_names_the_ffmpeg_that_decodes(tmp_path, media):
    used = find_ffmpeg()
    assert used.version
    first = run_media(tmp_path, media / "c.flac", settings_for())
    begun = json.loads((tmp_path / "runs" / first / "attempts" / "000001.json").read_text())
    assert begun["ffmpeg"] == {"version": used.version, "source": used.source}


def test_the_record_of_a_start_says_why_no_ffmpeg_is_usable(tmp_path, media, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "missing"))
    ffmpeg_candidates.cache_clear()
    try:
        run = run_media(tmp_path, media / "c.flac", settings_for())
    finally:
        ffmpeg_candidates.cache_clear()
    begun = json.loads((tmp_path / "runs" / run / "attempts" / "000001.json").read_text())
    assert f"{VARIABLE}: {tmp_path / 'missing'} does not run" in begun["ffmpeg"]["error"]
    assert manifest_of(tmp_path, run).status == "failed"


def test_two_runners_at_once_on_an_object_store_commit_one_after_the_other(tmp_path):
    storage = open_storage(f"memory://{tmp_path.name}")
    first, second = begin_attempt(storage, "run_a"), begin_attempt(storage, "run_a")
    facts = {"status": "completed", "counts": {}, "parts": []}
    assert commit_manifest(storage, "run_a", attempt=first, token="one", **facts).number == 1
    assert commit_manifest(storage, "run_a", attempt=second, token="two", **facts).number == 2
    with pytest.raises(CommitConflict, match="attempt 1 is stale"):
        commit_manifest(storage, "run_a", attempt=first, token="three", **facts)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 6 MB of its own, mounted for the test and unmounted after it."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a file system of its own cannot be mounted here: a full disk is not tried")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(disk, free_bytes):
    """Leaves only so many bytes free."""
    ballast = disk / "ballast"
    stat = os.statvfs(disk)
    with ballast.open("wb") as file:
        file.write(b"x" * max(0, stat.f_bavail * stat.f_frsize - free_bytes))
    return ballast


@pytest.mark.parametrize(
    "free_kb", [0, 150, *(pytest.param(kb, marks=pytest.mark.slow) for kb in (20, 40, 80, 250, 400))]
)
def test_a_full_disk_leaves_the_last_commit_readable_and_a_resume_finishes(small_disk, media, undisturbed, free_kb):
    data = small_disk / "data"
    with FakeGemini() as server:
        first = run_media(data, media / "c.flac", frames_to(server))
        kept = comparable_rows(data, first)
        run_id = create_run(data, media, frames_to(server))
        ballast = fill(small_disk, free_kb * 1024)
        child = start_runner(data, run_id)
        _, err = child.communicate(timeout=60)
        assert comparable_rows(data, first) == kept
        manifest = manifest_of(data, run_id)
        if child.returncode == 0:  # the commit itself still had room
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
        assert comparable_rows(data, run_id) == undisturbed
        assert not list((data / "tmp").iterdir())


def test_an_attempt_that_only_commits_keeps_what_is_stored_and_fails_the_rest(tmp_path, media, undisturbed):
    with FakeGemini() as server:
        run_id = create_run(tmp_path, media, frames_to(server, max_in_flight=1))
        kill_runner_after(5, tmp_path, run_id)
        called = len(server.ledger.calls())
        manifest = execute_run(str(tmp_path), run_id, commit_only="the runner died 4 times")
        assert manifest.status == "completed_with_failures"
        assert len(server.ledger.calls()) == called
        rows = check_counts(tmp_path, run_id)
        assert len(rows["results"]) == 5
        assert rows["failures"]
        told = {(row["code"], row["message"], row["retryable"]) for row in rows["failures"]}
        assert told == {("interrupted", "the runner died 4 times", True)}
        assert {row["status"] for row in rows["media"]} == {"partial", "failed"}
        execute_run(str(tmp_path), run_id)
    assert comparable_rows(tmp_path, run_id) == undisturbed
