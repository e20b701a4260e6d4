"""Manifests and parts, and what readers see of them."""

import subprocess
import sys
import threading

import duckdb
import pyarrow.parquet as pq
import pytest

from promptreel.schemas.arrow import row_of
from promptreel.schemas.errors import CommitConflict, InvalidInput, RunError
from promptreel.tables import layout
from promptreel.tables.analyst_views import connect_views
from promptreel.tables.manifest import commit_manifest, newest_manifest
from promptreel.tables.parts import ROWS_PER_GROUP, shard_writer
from promptreel.tables.reader import committed_run, connect, query, read_rows
from promptreel.tables.run_views import write_views
from promptreel.tables.storage import open_storage
from promptreel.tables.table_schemas import table_schemas
from tests.prompts import NESTED
from tests.tables.run_tables import FIELDS, RUN, call_row, commit_results, create_run, result_row


def test_manifests_are_numbered_and_each_token_commits_once(storage):
    create_run(storage)
    assert newest_manifest(storage, RUN) is None
    first = commit_results(storage, [result_row("v", 0, {}, FIELDS)])
    again = commit_results(storage, [result_row("v", 0, {}, FIELDS)])
    assert (first.number, again.number, again.parts) == (1, 1, first.parts)
    second = commit_results(storage, [], attempt=2, token="t2")
    assert second.number == 2
    assert newest_manifest(storage, RUN) == second
    with pytest.raises(CommitConflict, match="attempt 1 is stale"):
        commit_results(storage, [], attempt=1, token="t3")


def test_concurrent_writers_commit_one_manifest_per_token(tmp_path):
    storage = open_storage(tmp_path)
    create_run(storage)
    done = []

    def write(number):
        manifest = commit_manifest(
            storage, RUN, attempt=1, token=f"t{number % 4}", status="completed", counts={}, parts=[]
        )
        done.append((manifest.token, manifest.number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 16
    assert len({number for _, number in done}) == len(storage.list_names(layout.manifests_folder(RUN)))


def test_reader_sees_only_parts_of_newest_manifest(storage):
    create_run(storage)
    with pytest.raises(RunError, match="has not committed"):
        committed_run(storage, RUN)
    commit_results(storage, [result_row("v", 0, {}, FIELDS)])
    storage.write_atomic(f"{layout.parts_folder(RUN, 'results')}/part-00000-stray.parquet", b"truncated")
    with shard_writer(storage, RUN, 0, table_schemas(NESTED)) as writer:
        writer.write("results", result_row("w", 0, {}, FIELDS))
        writer.commit()
    rows = read_rows(storage, committed_run(storage, RUN), "results")
    assert [row["video_id"] for row in rows] == ["v"]
    assert rows[0]["fields"] == FIELDS
    assert read_rows(storage, committed_run(storage, RUN), "failures") == []


def test_run_view_has_one_typed_column_per_leaf(storage):
    create_run(storage)
    commit_results(
        storage, [result_row("v", 0, {}, FIELDS), result_row("v", 1, {}, {**FIELDS, "products": None, "scene": None})]
    )
    with connect(storage, committed_run(storage, RUN)) as connection:
        types = {row[0]: row[1] for row in connection.execute('DESCRIBE "run_a"').fetchall()}
        answer = query(
            connection, 'SELECT "scene.location", "products[].name", "products[].tags" FROM fields'
        ).to_pylist()
        assert query(connection, "SELECT count(*) AS n FROM run_a;").to_pylist() == [{"n": 2}]
    assert types == {
        "video_id": "VARCHAR",
        "video_name": "VARCHAR",
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


def test_plain_duckdb_reads_tables_in_the_run_folder(tmp_path, monkeypatch):
    storage = open_storage(tmp_path)
    request = create_run(storage)
    manifest = commit_results(storage, [result_row("v", 0, {}, FIELDS)])
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
def test_only_a_single_select_is_allowed(tmp_path, monkeypatch, statement):
    monkeypatch.chdir(tmp_path)
    storage = open_storage(tmp_path)
    create_run(storage)
    commit_results(storage, [result_row("v", 0, {}, FIELDS)])
    before = sorted(tmp_path.rglob("*"))
    with connect(storage, committed_run(storage, RUN)) as connection, pytest.raises(InvalidInput):
        query(connection, statement)
    assert sorted(tmp_path.rglob("*")) == before


def test_parts_have_small_row_groups_and_id_range(tmp_path):
    storage = open_storage(tmp_path)
    create_run(storage)
    rows = [result_row(f"v{number // 1500}", number, {}, FIELDS) for number in range(3000)]
    manifest = commit_results(storage, rows)
    (part,) = manifest.parts_of("results")
    assert (part.rows, part.min_video_id, part.max_video_id) == (3000, "v0", "v1")
    file = pq.ParquetFile(tmp_path / layout.run_folder(RUN) / part.file)
    assert [file.metadata.row_group(number).num_rows for number in range(3)] == [ROWS_PER_GROUP] * 3


def commit_calls(storage, attempt, *, with_version, earlier=()):
    """Commit one call in a new part, with or without the added column `model_version`."""
    schema = table_schemas(NESTED)["llm_calls"]
    if not with_version:
        schema = schema.remove(schema.get_field_index("model_version"))
    empty = dict.fromkeys(("code", "message", "finish_reason", "completed_at", "response_text"))
    row = row_of(call_row(attempt, **empty, model_version="v1"))
    with shard_writer(storage, RUN, attempt, {**table_schemas(NESTED), "llm_calls": schema}) as writer:
        writer.write("llm_calls", {name: row[name] for name in schema.names})
        parts = [*earlier, *writer.commit()]
    token = f"t{attempt}"
    commit_manifest(storage, RUN, attempt=attempt, token=token, status="completed", counts={}, parts=parts)
    return parts


def test_parts_without_an_added_column_are_readable(tmp_path):
    storage = open_storage(tmp_path)
    create_run(storage)
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
        printed = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
        assert printed.stdout.strip() == str(expected)
