"""The run folder: storage, cache, parts, manifests, and what a reader may see."""

import errno
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime

import duckdb
import pyarrow.parquet as pq
import pytest

from promptreel.schemas.arrow import row_of
from promptreel.schemas.errors import (
    CommitConflict,
    InvalidInput,
    RunError,
    RunNotFound,
    StorageError,
)
from promptreel.schemas.records import LlmCallRow
from promptreel.schemas.settings import RunSettings
from promptreel.tables import layout
from promptreel.tables.analyst_views import connect_views
from promptreel.tables.attempts import begin_attempt, is_running, last_attempt, runner_lock
from promptreel.tables.call_log import CallLog, read_calls, spent_tokens
from promptreel.tables.manifest import commit_manifest, newest_manifest
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.parts import ROWS_PER_GROUP, shard_writer
from promptreel.tables.progress import ProgressBoard, read_progress
from promptreel.tables.reader import committed_run, connect, query, read_rows
from promptreel.tables.request import (
    RunRequest,
    TargetItem,
    list_run_ids,
    read_request,
    read_target,
    write_request,
)
from promptreel.tables.run_views import write_views
from promptreel.tables.stop_signal import StopSignal, clear_stop, request_stop
from promptreel.tables.storage import open_storage
from promptreel.tables.table_schemas import table_schemas
from tests.prompts import NESTED


@pytest.fixture(params=["local", "memory"])
def storage(request, tmp_path):
    """The same behaviour on a disk and on an object store."""
    return open_storage(tmp_path if request.param == "local" else f"memory://{tmp_path.name}")


RUN = "run_a"


def make_run(storage, run_id=RUN):
    request = RunRequest(run_id, NESTED, RunSettings(), ("x",), datetime.now(UTC).isoformat())
    write_request(storage, request, [TargetItem("/x/a.mp4", "a.mp4")])
    return request


def result(video, number, metadata, fields):
    return {
        "run_id": RUN, "video_id": video, "segment_id": f"seg_{video}_{number}", "prompt_id": "p", "model": "m",
        "media_type": "video", "start_us": number * 10, "end_us": number * 10 + 10, "start_time": 0.0, "end_time": 1.0,
        "metadata": json.dumps(metadata), "metadata_text": "t", "warning": None, "reused": False, "operation_key": "k",
        "llm_call_ids": [], "executed_at": "now", "fields": fields,
    }  # fmt: skip


FIELDS = {
    "summary": "s",
    "scene": {"location": "dock", "people_count": 2, "bright": True},
    "products": [
        {"name": "a", "price": 1.5, "tags": ["x", "y"], "first_seen": None},
        {"name": "b", "price": None, "tags": None, "first_seen": 2.0},
    ],
    "keywords": ["k"],
    "start_time": 3.0,
    "extra": '{"a":1}',
}


def commit(storage, rows, attempt=1, token="t1"):
    with shard_writer(storage, RUN, 0, table_schemas(NESTED)) as writer:
        for row in rows:
            writer.write("results", row)
        parts = writer.commit()
    return commit_manifest(storage, RUN, attempt=attempt, token=token, status="completed", counts={}, parts=parts)


def test_files_are_written_whole_or_not_at_all(storage):
    storage.write_atomic("a/b.json", b"one")
    storage.write_atomic("a/b.json", b"two")
    assert storage.read_bytes("a/b.json") == b"two"
    assert storage.list_names("a") == ["b.json"]
    assert storage.create_exclusive("a/c", b"mine")
    assert not storage.create_exclusive("a/c", b"other")
    assert storage.read_bytes("a/c") == b"mine"
    assert storage.local_file("a/c").read_bytes() == b"mine"
    storage.remove("a/c")
    storage.remove("a/c")
    assert not storage.exists("a/c")
    assert storage.list_names("nowhere") == []
    with pytest.raises(FileNotFoundError):
        storage.read_bytes("a/none")


def test_a_folder_appears_with_its_marker_or_not_at_all(storage, tmp_path):
    for number in range(2):
        with storage.work_folder() as work:
            (work / "f").mkdir()
            (work / "f" / "x.jpg").write_bytes(b"%d" % number)
            (work / "f" / "done.json").write_bytes(b"{}")
            storage.commit_folder(work / "f", "cache/f", "done.json")
            assert not (work / "f" / "x.jpg").exists() or storage.root.startswith("memory") or number == 1
    assert storage.read_bytes("cache/f/x.jpg") == b"0"
    assert not work.exists()


def test_a_full_disk_is_told_as_such_and_leaves_the_old_content(tmp_path, monkeypatch):
    storage = open_storage(tmp_path)
    storage.write_atomic("a.json", b"old")

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=r"cannot write .*a\.json: No space left"):
        storage.write_atomic("a.json", b"new")
    monkeypatch.undo()
    assert storage.read_bytes("a.json") == b"old"
    assert storage.list_names("") == ["a.json"]


def test_the_cache_returns_what_was_kept_and_nothing_torn(storage):
    cache = OperationCache(storage)
    assert cache.get("ab12") is None
    cache.put("ab12", {"metadata": {"a": "é"}, "n": 1})
    assert cache.get("ab12") == {"metadata": {"a": "é"}, "n": 1}
    whole = storage.read_bytes(layout.operation_file("ab12"))
    for length in range(0, len(whole), 7):
        storage.write_atomic(layout.operation_file("ab12"), whole[:length])
        assert cache.get("ab12") is None
    storage.write_atomic(layout.operation_file("ab12"), whole.replace(b'"n":1', b'"n":2'))
    assert cache.get("ab12") is None


def test_a_request_is_frozen_and_read_back(storage):
    request = make_run(storage)
    assert read_request(storage, RUN) == request
    assert read_target(storage, RUN) == [TargetItem("/x/a.mp4", "a.mp4")]
    assert list_run_ids(storage) == [RUN]
    with pytest.raises(RunError, match="exists already"):
        make_run(storage)
    with pytest.raises(RunNotFound, match="run run_b not found"):
        read_request(storage, "run_b")
    with pytest.raises(InvalidInput, match="run id"):
        read_request(storage, "../etc")


def test_manifests_are_numbered_and_a_token_commits_once(storage):
    make_run(storage)
    assert newest_manifest(storage, RUN) is None
    first = commit(storage, [result("v", 0, {}, FIELDS)])
    again = commit(storage, [result("v", 0, {}, FIELDS)])
    assert (first.number, again.number, again.parts) == (1, 1, first.parts)
    second = commit(storage, [], attempt=2, token="t2")
    assert second.number == 2
    assert newest_manifest(storage, RUN) == second
    with pytest.raises(CommitConflict, match="attempt 1 is stale"):
        commit(storage, [], attempt=1, token="t3")


def test_many_writers_leave_one_manifest_for_each_token(tmp_path):
    storage = open_storage(tmp_path)
    make_run(storage)
    done = []

    def write(number):
        kept = commit_manifest(storage, RUN, attempt=1, token=f"t{number % 4}", status="completed", counts={}, parts=[])
        done.append((kept.token, kept.number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 16
    assert len({number for _, number in done}) == len(storage.list_names(layout.manifests_folder(RUN)))


def test_a_reader_sees_only_what_the_newest_manifest_names(storage):
    make_run(storage)
    with pytest.raises(RunError, match="has not committed"):
        committed_run(storage, RUN)
    commit(storage, [result("v", 0, {}, FIELDS)])
    storage.write_atomic(f"{layout.table_folder(RUN, 'results')}/part-00000-stray.parquet", b"torn")
    with shard_writer(storage, RUN, 0, table_schemas(NESTED)) as writer:
        writer.write("results", result("w", 0, {}, FIELDS))
        writer.commit()
    rows = read_rows(storage, committed_run(storage, RUN), "results")
    assert [row["video_id"] for row in rows] == ["v"]
    assert rows[0]["fields"] == FIELDS
    assert read_rows(storage, committed_run(storage, RUN), "failures") == []


def test_the_run_view_has_one_typed_column_for_each_leaf(storage):
    make_run(storage)
    commit(storage, [result("v", 0, {}, FIELDS), result("v", 1, {}, {**FIELDS, "products": None, "scene": None})])
    with connect(storage, committed_run(storage, RUN)) as connection:
        described = {row[0]: row[1] for row in connection.execute('DESCRIBE "run_a"').fetchall()}
        answer = query(
            connection, 'SELECT "scene.location", "products[].name", "products[].tags" FROM fields'
        ).to_pylist()
        assert query(connection, "SELECT count(*) AS n FROM run_a;").to_pylist() == [{"n": 2}]
    assert described == {
        "video_id": "VARCHAR",
        "segment_id": "VARCHAR",
        "media_type": "VARCHAR",
        "start_time": "DOUBLE",
        "end_time": "DOUBLE",
        "summary": "VARCHAR",
        "scene.location": "VARCHAR",
        "scene.people_count": "BIGINT",
        "scene.bright": "BOOLEAN",
        "products[].name": "VARCHAR[]",
        "products[].price": "DOUBLE[]",
        "products[].tags": "VARCHAR[][]",
        "products[].first_seen": "DOUBLE[]",
        "keywords": "VARCHAR[]",
        "metadata.start_time": "DOUBLE",
        "extra": "VARCHAR",
    }
    assert answer == [
        {"scene.location": "dock", "products[].name": ["a", "b"], "products[].tags": [["x", "y"], None]},
        {"scene.location": None, "products[].name": None, "products[].tags": None},
    ]


def test_plain_duckdb_reads_the_tables_from_inside_the_run_folder(tmp_path, monkeypatch):
    storage = open_storage(tmp_path)
    request = make_run(storage)
    manifest = commit(storage, [result("v", 0, {}, FIELDS)])
    write_views(storage, request.prompt, manifest)
    monkeypatch.chdir(tmp_path / layout.run_folder(RUN))
    with duckdb.connect() as connection:
        connection.execute((tmp_path / layout.views_file(RUN)).read_text())
        assert connection.execute('SELECT "scene.people_count" FROM fields').fetchall() == [(2,)]
        assert connection.execute("SELECT count(*) FROM transcripts").fetchall() == [(0,)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1; SELECT 2",
        "CREATE TABLE t AS SELECT 1",
        "COPY (SELECT 1) TO 'x.csv'",
        "WITH a AS (COPY (SELECT 1) TO 'x.csv') SELECT 1",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/hostname'",
        "ATTACH 'x.db'",
        "SET memory_limit='1GB'",
        "INSTALL httpfs",
        "nonsense",
        "",
    ],
)
def test_sql_that_is_no_single_select_over_the_run_is_refused(tmp_path, monkeypatch, statement):
    monkeypatch.chdir(tmp_path)
    storage = open_storage(tmp_path)
    make_run(storage)
    commit(storage, [result("v", 0, {}, FIELDS)])
    before = sorted(tmp_path.rglob("*"))
    with connect(storage, committed_run(storage, RUN)) as connection, pytest.raises(InvalidInput):
        query(connection, statement)
    assert sorted(tmp_path.rglob("*")) == before


def test_rows_of_a_part_lie_in_small_groups_with_their_range(tmp_path):
    storage = open_storage(tmp_path)
    make_run(storage)
    rows = [result(f"v{number // 1500}", number, {}, FIELDS) for number in range(3000)]
    manifest = commit(storage, rows)
    (part,) = manifest.parts_of("results")
    assert (part.rows, part.min_video_id, part.max_video_id) == (3000, "v0", "v1")
    file = pq.ParquetFile(tmp_path / layout.run_folder(RUN) / part.file)
    assert [file.metadata.row_group(number).num_rows for number in range(3)] == [ROWS_PER_GROUP] * 3


def call(number, **changes):
    values = dict.fromkeys(LlmCallRow.__dataclass_fields__, 0)
    text = dict.fromkeys(
        ("run_id", "video_id", "operation_key", "model", "purpose", "status", "invoked_at", "request"), "x"
    )
    values |= text | {"llm_call_id": f"llm_{number}", "segment_id": None, "status": "interrupted", "total_tokens": 5}
    return LlmCallRow(**{**values, **changes})


def test_a_call_that_never_ended_reads_as_interrupted(storage):
    log = CallLog(storage, RUN, 1, lambda video_id: 0)
    log.begin(call(1))
    log.end(call(1, status="success"))
    log.begin(call(2))
    calls = read_calls(storage, RUN, 0)
    assert {key: value.status for key, value in calls.items()} == {"llm_1": "success", "llm_2": "interrupted"}
    assert spent_tokens(storage, RUN) == 10


def test_a_torn_last_line_costs_only_itself(tmp_path):
    storage = open_storage(tmp_path)
    log = CallLog(storage, RUN, 1, lambda video_id: 3)
    log.begin(call(1))
    log.end(call(1, status="success"))
    (file,) = (tmp_path / layout.calls_folder(RUN) / "00003").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert read_calls(storage, RUN, 3)["llm_1"].status == "interrupted"


def test_attempts_are_numbered_and_a_run_has_one_runner(tmp_path):
    storage = open_storage(tmp_path)
    make_run(storage)
    assert [begin_attempt(storage, RUN) for _ in range(3)] == [1, 2, 3]
    assert not is_running(storage, RUN)
    with runner_lock(storage, RUN):
        assert is_running(storage, RUN)
        with pytest.raises(RunError, match="another process"), runner_lock(storage, RUN):
            pass
    assert not is_running(storage, RUN)


def test_attempts_go_on_behind_the_highest_number_whatever_else_lies_in_their_folder(tmp_path):
    storage = open_storage(tmp_path)
    make_run(storage)
    folder = tmp_path / layout.attempts_folder(RUN)
    assert [begin_attempt(storage, RUN) for _ in range(2)] == [1, 2]
    (folder / ".000003.json.0123456789abcdef").touch()  # of a runner that was killed in between
    assert last_attempt(storage, RUN) == 2
    assert begin_attempt(storage, RUN) == 3
    (folder / ".000003.json.0123456789abcdef").unlink()
    (folder / "000001.json").unlink()
    assert last_attempt(storage, RUN) == 3


def test_a_half_made_run_folder_is_made_anew_and_a_whole_one_is_left_as_it_is(storage):
    storage.write_atomic(layout.media_file(RUN), b"half")
    make_run(storage)
    before = read_target(storage, RUN)
    request = read_request(storage, RUN)
    with pytest.raises(RunError, match="exists already"):
        write_request(storage, request, [TargetItem("/x/other.mp4", "other.mp4")])
    assert read_target(storage, RUN) == before


def test_the_stop_file_is_seen_within_half_a_second_and_can_be_taken_back(storage):
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


def test_progress_is_that_of_the_newest_attempt(storage):
    for attempt in (1, 2):
        board = ProgressBoard(storage, RUN, attempt)
        board.add(items_read=attempt, calls=1)
        board.flush()
    assert read_progress(storage, RUN) == {"items_read": 2, "calls": 1}


SHORT_WRITE = """
import resource, sys
from promptreel.schemas.errors import StorageError
from promptreel.tables.storage import open_storage

storage = open_storage(sys.argv[1])
storage.append_line("log.jsonl", b"first")
resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))  # the file may have 20 bytes, as on a full disk
try:
    storage.append_line("log.jsonl", b"x" * 100)
except StorageError:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
storage.append_line("log.jsonl", b"third")
"""


def test_a_line_that_finds_no_room_leaves_the_log_as_it_was(tmp_path):
    command = [sys.executable, "-c", SHORT_WRITE, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "refused\n"
    assert (tmp_path / "log.jsonl").read_bytes() == b"first\nthird\n"


def test_a_log_without_the_version_of_the_model_is_read(tmp_path):
    storage = open_storage(tmp_path)
    log = CallLog(storage, RUN, 1, lambda video_id: 0)
    log.end(call(1, status="success"))
    (file,) = (tmp_path / layout.calls_folder(RUN) / "00000").iterdir()
    entry = json.loads(file.read_text())
    del entry["call"]["model_version"]
    file.write_text(json.dumps(entry) + "\n")
    found = read_calls(storage, RUN, 0)["llm_1"]
    assert (found.status, found.model_version) == ("success", None)


def commit_calls(storage, attempt, *, with_version, earlier=()):
    """Commits one call in a part of its own, with or without the column that came later."""
    schema = table_schemas(NESTED)["llm_calls"]
    if not with_version:
        schema = schema.remove(schema.get_field_index("model_version"))
    nothing = dict.fromkeys(("code", "message", "finish_reason", "completed_at", "response_text"))
    row = row_of(call(attempt, **nothing, model_version="v1"))
    with shard_writer(storage, RUN, attempt, {**table_schemas(NESTED), "llm_calls": schema}) as writer:
        writer.write("llm_calls", {name: row[name] for name in schema.names})
        parts = [*earlier, *writer.commit()]
    token = f"t{attempt}"
    commit_manifest(storage, RUN, attempt=attempt, token=token, status="completed", counts={}, parts=parts)
    return parts


def test_parts_from_before_a_column_are_read_beside_later_ones(tmp_path):
    storage = open_storage(tmp_path)
    make_run(storage)
    statement = "SELECT llm_call_id, model_version FROM llm_calls ORDER BY 1"
    earlier = commit_calls(storage, 1, with_version=False)
    expected = [("llm_1", None)]
    for parts in (earlier, None):
        if parts is None:
            commit_calls(storage, 2, with_version=True, earlier=earlier)
            expected = [("llm_1", None), ("llm_2", "v1")]
        run = committed_run(storage, RUN)
        for connection in (connect(storage, run), connect_views(storage, [run])):
            assert connection.execute(statement).fetchall() == expected
        assert [(row["llm_call_id"], row["model_version"]) for row in read_rows(storage, run, "llm_calls")] == expected
        write_views(storage, NESTED, newest_manifest(storage, RUN))
        folder = tmp_path / layout.run_folder(RUN)
        script = (
            "import duckdb; duckdb.execute(open('tables.sql').read()); print(duckdb.sql(\""
            + statement
            + '").fetchall())'
        )
        shown = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
        assert shown.stdout.strip() == str(expected)
