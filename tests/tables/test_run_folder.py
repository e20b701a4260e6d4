"""Files of the run folder: requests, attempts, the stop file and progress; the operation cache."""

import json

import pytest

from promptreel.schemas.errors import InvalidInput, RunError, RunNotFound
from promptreel.tables import layout
from promptreel.tables.attempts import begin_attempt, is_running, last_attempt, runner_lock
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.progress import ProgressBoard, read_progress
from promptreel.tables.request import TargetItem, list_run_ids, read_request, read_target, write_request
from promptreel.tables.stop_signal import StopSignal, clear_stop, request_stop
from promptreel.tables.storage import open_storage
from tests.tables.run_tables import RUN, create_run


def test_cache_returns_stored_values_and_ignores_corrupt_files(storage):
    cache = OperationCache(storage)
    assert cache.get("ab12") is None
    cache.put("ab12", {"metadata": {"a": "é"}, "n": 1})
    assert cache.get("ab12") == {"metadata": {"a": "é"}, "n": 1}
    complete = storage.read_bytes(layout.operation_file("ab12"))
    for length in range(0, len(complete), 7):
        storage.write_atomic(layout.operation_file("ab12"), complete[:length])
        assert cache.get("ab12") is None
    storage.write_atomic(layout.operation_file("ab12"), complete.replace(b'"n":1', b'"n":2'))
    assert cache.get("ab12") is None


def test_request_is_stored_and_loaded(storage):
    request = create_run(storage)
    assert read_request(storage, RUN) == request
    assert read_target(storage, RUN) == [TargetItem("/x/a.mp4", "a.mp4")]
    assert list_run_ids(storage) == [RUN]
    with pytest.raises(RunError, match="already exists"):
        create_run(storage)
    with pytest.raises(RunNotFound, match="run run_b not found"):
        read_request(storage, "run_b")
    with pytest.raises(InvalidInput, match="run id"):
        read_request(storage, "../etc")


def test_incomplete_run_folder_is_overwritten_and_complete_one_is_not(storage):
    storage.write_atomic(layout.media_file(RUN), b"partial")
    create_run(storage)
    before = read_target(storage, RUN)
    request = read_request(storage, RUN)
    with pytest.raises(RunError, match="already exists"):
        write_request(storage, request, [TargetItem("/x/other.mp4", "other.mp4")])
    assert read_target(storage, RUN) == before


def test_attempts_are_numbered_and_a_run_has_one_runner(tmp_path):
    storage = open_storage(tmp_path)
    create_run(storage)
    assert [begin_attempt(storage, RUN) for _ in range(3)] == [1, 2, 3]
    assert not is_running(storage, RUN)
    with runner_lock(storage, RUN):
        assert is_running(storage, RUN)
        with pytest.raises(RunError, match="another process"), runner_lock(storage, RUN):
            pass
    assert not is_running(storage, RUN)


def test_attempt_numbers_continue_after_the_highest(tmp_path):
    storage = open_storage(tmp_path)
    create_run(storage)
    folder = tmp_path / layout.attempts_folder(RUN)
    assert [begin_attempt(storage, RUN) for _ in range(2)] == [1, 2]
    (folder / ".000003.json.0123456789abcdef").touch()  # left by a killed runner
    assert last_attempt(storage, RUN) == 2
    assert begin_attempt(storage, RUN) == 3
    (folder / ".000003.json.0123456789abcdef").unlink()
    (folder / "000001.json").unlink()
    assert last_attempt(storage, RUN) == 3


def test_stop_file_is_seen_within_half_a_second(storage):
    now = [0.0]
    signal = StopSignal(storage, RUN, clock=lambda: now[0])
    assert not signal.is_set()
    request_stop(storage, RUN, "test")
    request_stop(storage, RUN, "again")
    assert json.loads(storage.read_bytes(layout.stop_file(RUN)))["requested_by"] == "test"
    assert not signal.is_set()
    now[0] = 0.6
    assert signal.is_set()
    clear_stop(storage, RUN)
    assert not StopSignal(storage, RUN).is_set()


def test_progress_is_of_the_newest_attempt(storage):
    for attempt in (1, 2):
        board = ProgressBoard(storage, RUN, attempt)
        board.add(items_read=attempt, calls=1)
        board.flush()
    assert read_progress(storage, RUN) == {"items_read": 2, "calls": 1}
