"""Finished segments are readable while a run is in progress, and interim states leave no trace in the final tables."""

import threading
import uuid
from dataclasses import replace

import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.schemas.errors import CommitConflict, StateExpired, StorageError
from promptreel.schemas.table_rows import TABLES
from promptreel.tables.interim import commit_interim, interim_states, newest_readable, read_state
from promptreel.tables.manifest import commit_manifest
from promptreel.tables.pages import ItemRows
from promptreel.tables.part_files import part_paths
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import (
    check_counts,
    comparable_rows,
    create_run,
    kill,
    make_audio,
    make_video,
    manifest_of,
    promptreel,
    run_media,
    start_runner,
    wait_for,
)
from tests.pipelines.conftest import frame_settings
from tests.prompts import NESTED

SEGMENTS = 6 + 3
HELD = Fault(text="0:05.00 to 0:06.00", hold=True)  # the last segment of the video


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A silent video of 6 s and 3 s of audio."""
    folder = tmp_path_factory.mktemp("media")
    make_video(folder / "a.mp4", 6, sound=False)
    make_audio(folder / "b.flac", 3)
    return folder


def settings(server, interval_s=0.1, **more):
    return replace(frame_settings(server, **more), commit_interval_s=interval_s)


def state_of(data, run_id):
    return newest_readable(open_storage(data), run_id)


def counts_of(data, run_id):
    state = state_of(data, run_id)
    return dict(state.counts) if state is not None else {}


def rows_of(data, manifest, table):
    """The rows of a table in one state, read from its files."""
    storage = open_storage(data)
    rows = ItemRows(part_paths(storage, manifest.run_id, manifest.parts_of(table)))
    return [row for video_id in sorted(rows.video_ids()) for row in rows.of(video_id)]


def is_waiting_for_last(data, run_id):
    return counts_of(data, run_id).get("results.total", 0) == SEGMENTS - 1


def part_files(data, run_id):
    root = data / "runs" / run_id
    return {path.relative_to(root).as_posix() for path in root.glob("parts/*/*.parquet")}


@pytest.fixture
def waiting_run(tmp_path, media):
    """A runner process whose last segment has no answer yet, with its data folder, run id, and service."""
    with FakeGemini(faults=[HELD]) as server:
        run_id = create_run(tmp_path, media, settings(server))
        child = start_runner(tmp_path, run_id)
        try:
            wait_for(lambda: child.poll() is not None or is_waiting_for_last(tmp_path, run_id))
            assert child.poll() is None
            yield child, tmp_path, run_id, server
        finally:
            server.release()
            if child.poll() is None:
                kill(child)


def test_finished_segments_are_readable_during_the_run(waiting_run):
    child, data, run_id, server = waiting_run
    assert manifest_of(data, run_id) is None
    state = state_of(data, run_id)
    assert (state.is_interim, state.status) == (True, "processing")
    segments = rows_of(data, state, "segments")
    assert [row["status"] for row in segments].count("pending") == 1
    assert len(segments) == SEGMENTS
    finished = {row["segment_id"] for row in segments if row["status"] == "succeeded"}
    assert finished == {row["segment_id"] for row in rows_of(data, state, "results")}
    assert len(finished) == SEGMENTS - 1
    assert rows_of(data, state, "failures") == []
    assert "interrupted" not in {row["status"] for row in rows_of(data, state, "llm_calls")}
    server.release()
    child.communicate(timeout=60)
    assert child.returncode == 0
    assert state_of(data, run_id).number == 1
    check_counts(data, run_id)


def test_items_count_when_finished_and_sum_stays_below_total(tmp_path, media):
    prompt = replace(NESTED, video_level=None)
    with FakeGemini(faults=[HELD]) as server:
        run_id = create_run(tmp_path, media, settings(server), prompt)
        child = start_runner(tmp_path, run_id)
        wait_for(lambda: child.poll() is not None or is_waiting_for_last(tmp_path, run_id))
        counts = counts_of(tmp_path, run_id)
        server.release()
        child.communicate(timeout=60)
    assert (counts["media.total"], counts["media.completed"], counts["media.processing"]) == (2, 1, 1)
    assert counts["media.audio.completed"] == 1
    assert manifest_of(tmp_path, run_id).counts["media.completed"] == 2


def test_run_killed_after_interim_commit_resumes_to_the_same_tables(waiting_run, media, tmp_path_factory):
    child, data, run_id, server = waiting_run
    kill(child)
    before = counts_of(data, run_id)
    server.release()
    execute_run(str(data), run_id)
    assert before["results.total"] == SEGMENTS - 1
    assert manifest_of(data, run_id).number == 1
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    with FakeGemini() as other:
        reference = run_media(undisturbed, media, settings(other, 0))
    assert comparable_rows(data, run_id) == comparable_rows(undisturbed, reference)
    check_counts(data, run_id)


def test_interim_parts_are_removed_at_the_end(waiting_run):
    child, data, run_id, server = waiting_run
    server.release()
    child.communicate(timeout=60)
    assert interim_states(open_storage(data), run_id) == []
    assert part_files(data, run_id) == {part.file for part in manifest_of(data, run_id).parts}


def test_command_line_says_that_a_killed_run_is_interrupted(waiting_run):
    child, data, run_id, _ = waiting_run
    kill(child)
    code, _, err = promptreel("results", run_id, "--data-dir", data)
    assert code == 0
    assert f"run {run_id} is interrupted" in err
    assert f"{SEGMENTS - 1} of {SEGMENTS} segments so far" in err


def execute_in_thread(data, run_id):
    """Execute a run in this process; return the thread and a list that gets its errors."""
    errors = []

    def execute():
        try:
            execute_run(str(data), run_id)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=execute)
    thread.start()
    return thread, errors


def test_interim_states_work_on_an_object_store(media, monkeypatch):
    monkeypatch.setattr("promptreel.tables.worker_logs._OBJECT_FLUSH_INTERVAL_S", 0.1)
    data = f"memory://{uuid.uuid4().hex}"
    with FakeGemini(faults=[HELD]) as server:
        run_id = create_run(data, media, settings(server))
        thread, errors = execute_in_thread(data, run_id)
        try:
            wait_for(lambda: not thread.is_alive() or is_waiting_for_last(data, run_id))
            assert thread.is_alive(), errors
            state = state_of(data, run_id)
            assert len(rows_of(data, state, "results")) == SEGMENTS - 1
        finally:
            server.release()
            thread.join()
    assert errors == []
    storage = open_storage(data)
    assert storage.list_names(f"runs/{run_id}/interim") == []
    files = {f"parts/{t}/{name}" for t in TABLES for name in storage.list_names(f"runs/{run_id}/parts/{t}")}
    assert files == {part.file for part in manifest_of(data, run_id).parts}


def test_superseded_states_are_removed_during_the_run(tmp_path, media, monkeypatch):
    monkeypatch.setattr("promptreel.pipelines.interim_commits._GRACE_S", 0.0)
    monkeypatch.setattr("promptreel.pipelines.interim_commits._INTERVAL_PER_COMMIT_TIME", 0)
    monkeypatch.setattr("promptreel.tables.worker_logs._FLUSH_INTERVAL_S", 0.02)
    with FakeGemini(latency_s=0.5, faults=[HELD]) as server:
        run_id = create_run(tmp_path, media, settings(server, 0.05, max_in_flight=2))
        thread, errors = execute_in_thread(tmp_path, run_id)
        try:
            wait_for(lambda: not thread.is_alive() or is_waiting_for_last(tmp_path, run_id))
            wait_for(lambda: not thread.is_alive() or len(interim_states(open_storage(tmp_path), run_id)) <= 2)
            states = interim_states(open_storage(tmp_path), run_id)
            assert states[-1].number < -3
            for state in states:
                assert {part.file for part in state.parts} <= part_files(tmp_path, run_id)
            with pytest.raises(StateExpired):
                read_state(open_storage(tmp_path), run_id, -1)
        finally:
            server.release()
            thread.join()
    assert errors == []


def test_stale_attempt_and_ended_run_reject_interim_states(tmp_path):
    storage = open_storage(tmp_path)
    first = commit_interim(storage, "run_a", attempt=2, counts={}, parts=[])
    assert (first.number, first.is_interim) == (-1, True)
    with pytest.raises(CommitConflict, match="attempt 2"):
        commit_interim(storage, "run_a", attempt=1, counts={}, parts=[])
    commit_manifest(storage, "run_a", attempt=2, token="t", status="completed", counts={}, parts=[])
    with pytest.raises(CommitConflict, match="has a manifest"):
        commit_interim(storage, "run_a", attempt=3, counts={}, parts=[])
    assert newest_readable(storage, "run_a").number == 1


def test_a_failing_interim_commit_does_not_affect_the_run(tmp_path, media, monkeypatch):
    def fail(*arguments, **more):
        raise StorageError("cannot write: no space left on device")

    monkeypatch.setattr("promptreel.pipelines.interim_commits.commit_interim", fail)
    with FakeGemini(latency_s=0.3) as server:
        run_id = run_media(tmp_path, media, settings(server, 0.05, max_in_flight=1))
    assert manifest_of(tmp_path, run_id).status == "completed"
    assert part_files(tmp_path, run_id) == {part.file for part in manifest_of(tmp_path, run_id).parts}


def test_interval_of_zero_commits_only_at_the_end(tmp_path, media):
    with FakeGemini() as server:
        run_id = run_media(tmp_path, media, settings(server, 0))
    assert not (tmp_path / "runs" / run_id / "interim").exists()
    assert not (tmp_path / "runs" / run_id / "outcomes").exists()
    assert manifest_of(tmp_path, run_id).status == "completed"


def test_resumed_run_shows_at_least_what_was_shown_before(waiting_run):
    child, data, run_id, _ = waiting_run
    kill(child)
    before = state_of(data, run_id)
    again = start_runner(data, run_id)
    shown = []

    def has_committed_again():
        shown.append(state_of(data, run_id))
        return again.poll() is not None or shown[-1].number < before.number

    try:
        wait_for(has_committed_again)
    finally:
        kill(again)
    assert shown[-1].attempt == 2
    for state in shown:
        assert state.counts["segments.succeeded"] >= before.counts["segments.succeeded"]
        assert state.counts["segments.total"] == SEGMENTS
