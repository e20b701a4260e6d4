"""`promptreel sql`: the views of the API without a service, and export to a file."""

import csv
import json

import duckdb
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from promptreel.cli.main import cli
from promptreel.schemas.errors import InvalidInput
from promptreel.tables.analyst_views import analyst_views, connect_views
from promptreel.tables.reader import committed_run, query
from promptreel.tables.storage import open_storage
from tests.sql_runs import FIRST_RUN, SECOND, SECOND_RUN, SEGMENTS, commit_run, second_fields, tree_hash


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    data = tmp_path_factory.mktemp("sql-command") / "data"
    commit_run(data, FIRST_RUN)
    commit_run(data, SECOND_RUN, SECOND, second_fields)
    return data


def sql(data, *words):
    return CliRunner().invoke(cli, ["sql", *map(str, words), "--data-dir", str(data)])


def sql_json(data, *words):
    done = sql(data, *words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_default_is_the_newest_run_with_its_fields_view(data):
    assert sql_json(data, "SELECT count(*) AS n, min(run_id) AS r FROM segments") == [{"n": SEGMENTS, "r": SECOND_RUN}]
    assert sql_json(data, "SELECT \"count\" FROM fields WHERE segment_id = 'seg_2'") == [{"count": 2}]


def test_current_views_read_all_runs_unless_runs_are_named(data):
    count = "SELECT prompt_name AS p, count(*) AS n FROM Current_Fields GROUP BY 1 ORDER BY 1"
    answered = SEGMENTS - 3
    assert sql_json(data, count) == [{"p": "nested", "n": answered}, {"p": "second", "n": answered}]
    assert sql_json(data, count, "--run", FIRST_RUN) == [{"p": "nested", "n": answered}]


def test_several_runs_share_tables_and_have_own_views(data):
    both = ["--run", FIRST_RUN, "--run", SECOND_RUN]
    assert sql_json(data, "SELECT count(DISTINCT run_id) AS n FROM segments", *both) == [{"n": 2}]
    joined = f'SELECT count(*) AS n FROM "{FIRST_RUN}" JOIN "{SECOND_RUN}" USING (video_id, segment_id)'
    assert sql_json(data, joined, *both) == [{"n": SEGMENTS - 3}]


def test_offline_views_equal_the_views_of_the_api(data):
    storage = open_storage(data)
    runs = [committed_run(storage, run_id) for run_id in (FIRST_RUN, SECOND_RUN)]
    offline = {view.name: view for view in analyst_views(storage, runs, include_uris=True).views}
    with connect_views(storage, runs) as connection:
        for view in analyst_views(storage, runs).views:
            columns = [(column.name, column.type) for column in offline[view.name].columns]
            described = connection.execute(f'DESCRIBE "{view.name}"').fetchall()
            assert columns == [(row[0], row[1]) for row in described]
            assert {column.name for column in view.columns} == {name for name, _ in columns} - {
                "uri",
                "other_uris",
            } or (view.name != "media")
            rows = query(connection, f'SELECT * FROM "{view.name}"').num_rows
            assert rows == view.row_count or (view.name.startswith("current_") and rows < view.row_count)
        assert query(connection, "SELECT * FROM llm_calls").num_rows == 0


STATEMENT = f"""SELECT segment_id, "scene.people_count" AS people, "products[].name" AS names, "summary",
    start_time < 3 AS b FROM "{FIRST_RUN}" ORDER BY segment_id"""


def test_result_is_exported_as_parquet_that_duckdb_reads(data, tmp_path):
    file = tmp_path / "result.parquet"
    done = sql(data, STATEMENT, "--run", FIRST_RUN, "--out", file)
    assert (done.exit_code, done.output) == (0, f"{SEGMENTS - 3} rows in {file}\n")
    rows = sql_json(data, STATEMENT, "--run", FIRST_RUN)
    assert pq.read_table(file).to_pylist() == rows
    with duckdb.connect() as plain:
        assert plain.execute(f"SELECT sum(people) FROM '{file}'").fetchone() == (sum(row["people"] for row in rows),)
    assert list(tmp_path.iterdir()) == [file]


def test_result_is_exported_as_csv_with_json_lists(data, tmp_path):
    file = tmp_path / "result.csv"
    assert sql_json(data, STATEMENT, "--run", FIRST_RUN, "--out", file) == {"file": str(file), "rows": SEGMENTS - 3}
    with file.open(newline="") as opened:
        read = list(csv.DictReader(opened))
    rows = sql_json(data, STATEMENT, "--run", FIRST_RUN)
    assert [json.loads(row["names"]) for row in read] == [row["names"] for row in rows]
    assert [int(row["people"]) for row in read] == [row["people"] for row in rows]
    assert [row["summary"] for row in read] == [row["summary"] for row in rows]


def test_export_has_every_row_unless_limited(data, tmp_path):
    many = "SELECT range AS n, [range] AS l FROM range(25000)"
    for name, words, count in (("a.parquet", [], 25_000), ("b.csv", [], 25_000), ("c.parquet", ["--limit", 7], 7)):
        assert sql_json(data, many, "--out", tmp_path / name, *words)["rows"] == count
    assert pq.read_table(tmp_path / "a.parquet")["n"].to_pylist() == list(range(25_000))
    assert len((tmp_path / "b.csv").read_text().splitlines()) == 25_001
    assert len(sql_json(data, "SELECT * FROM range(2000)")) == 1000


@pytest.mark.parametrize(
    ("statement", "name", "expected"),
    [
        ("SELECT 1", "a.xlsx", "the extension must be one of .parquet, .csv"),
        ("SELECT nothing FROM segments", "a.csv", 'Referenced column "nothing" not found'),
        ("COPY segments TO 'x.csv'", "a.csv", "exactly one SELECT"),
        ("WITH a AS (COPY (SELECT 1) TO 'x.csv') SELECT 1", "a.csv", "SQL"),
        ("SELECT error('late') FROM range(20000)", "a.csv", "late"),
        ("SELECT 1", "no/such/folder/a.csv", "cannot be written"),
    ],
)
def test_failed_export_reports_the_reason_and_leaves_no_file(data, tmp_path, statement, name, expected):
    before = tree_hash(data)
    done = sql(data, statement, "--out", tmp_path / name)
    assert done.exit_code != 0
    assert isinstance(done.exception, InvalidInput)
    assert expected in str(done.exception)
    assert list(tmp_path.iterdir()) == []
    assert tree_hash(data) == before


def test_failed_export_leaves_the_earlier_file_unchanged(data, tmp_path):
    file = tmp_path / "a.csv"
    assert sql(data, "SELECT 1 AS a", "--out", file).exit_code == 0
    before = file.read_bytes()
    assert sql(data, "SELECT error('late') FROM range(20000)", "--out", file).exit_code != 0
    assert file.read_bytes() == before
