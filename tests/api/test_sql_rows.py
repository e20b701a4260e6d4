"""Answers of the SQL sandbox: tables, rows, values and their limits."""

import hashlib
from pathlib import Path

import duckdb
import pytest

from promptreel.api.sql.limits import SqlLimits
from promptreel.api.sql.sandbox import Sandbox, SqlError
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables.analyst_views import analyst_views
from promptreel.tables.reader import committed_run
from promptreel.tables.storage import open_storage
from tests.api.sql_world import run
from tests.sql_runs import (
    FIRST_RUN,
    commit_run,
)

pytest_plugins = ["tests.api.sql_sandbox_fixtures"]


def test_sandbox_reports_tables_and_columns(sql_world, sandbox):
    answer = run(sandbox, sql_world, f'SELECT count(*) AS n FROM "{FIRST_RUN}" JOIN media USING (video_id);')
    assert answer["tables"] == sorted([FIRST_RUN, "media"])
    assert answer["columns"] == [{"name": "n", "type": "BIGINT"}]


def test_limit_applies_after_filtering_by_field(tmp_path, sandbox):
    prompt = prompt_from_dict(
        {
            "name": "flat",
            "prompt_text": "State how long it is.",
            "json_schema": {"type": "object", "properties": {"seconds": {"type": "number"}}},
        }
    )
    commit_run(tmp_path, FIRST_RUN, prompt, lambda number, word: {"seconds": float(number)})
    storage = open_storage(tmp_path)
    tables = analyst_views(storage, [committed_run(storage, FIRST_RUN)])
    views = {view.name: view.sql for view in tables.views}
    for source in (f'"{FIRST_RUN}"', "segments"):
        statement = f"SELECT video_id, start_time, seconds FROM {source} WHERE seconds >= 2 ORDER BY start_time LIMIT 2"
        rows = sandbox.run(statement, views, tables.files, row_limit=100)["rows"]
        assert [row["seconds"] for row in rows] == [2.0, 4.0]  # every fourth segment failed


def test_row_and_byte_limits_are_reported(sql_world, sandbox):
    assert run(sandbox, sql_world, "FROM range(10)", row_limit=10)["truncated"] is False
    answer = run(sandbox, sql_world, "FROM range(11)", row_limit=10)
    assert (len(answer["rows"]), answer["truncated"]) == (10, True)
    small = Sandbox(SqlLimits(max_answer_bytes=10_000, warm=0))
    try:
        answer = run(small, sql_world, "SELECT repeat('x', 3000) AS a FROM range(10)")
        assert (len(answer["rows"]), answer["truncated"]) == (3, True)
        with pytest.raises(SqlError, match="One row exceeds"):
            run(small, sql_world, "SELECT repeat('x', 30000) AS a")
    finally:
        small.close()


def test_values_of_every_type_are_json(sql_world, sandbox):
    statement = """SELECT 1.5 AS d, 0.10::DECIMAL(10,2) AS e, 12345678901234567890.123::DECIMAL(38,3) AS big_decimal,
        9007199254740992 AS exact, 9007199254740993 AS beyond, 170141183460469231731687303715884105727 AS huge,
        'nan'::DOUBLE AS nan, '-inf'::FLOAT AS inf, DATE '2026-04-20' AS day, TIMESTAMP '2026-04-20 10:00:00.5' AS t,
        TIMESTAMPTZ '2026-04-20 12:00:00+02' AS tz, DATE '290000-01-01' AS far, 'a'::BLOB AS blob,
        {'a': [{'b': 'nan'::DOUBLE}]} AS nested, map(['k'], [[1]]) AS m, map([1], ['x']) AS n, [1, NULL] AS l,
        'é\u2603'  AS text, NULL AS nothing, true AS yes, INTERVAL 1 DAY AS span,
        '123e4567-e89b-12d3-a456-426614174000'::UUID AS id, 1 AS a, 2 AS a"""
    (row,) = run(sandbox, sql_world, statement)["rows"]
    assert row == {
        "d": 1.5, "e": 0.1, "big_decimal": "12345678901234567890.123", "exact": 9007199254740992,
        "beyond": "9007199254740993", "huge": "170141183460469231731687303715884105727", "nan": None, "inf": None,
        "day": "2026-04-20", "t": "2026-04-20T10:00:00.500000", "tz": "2026-04-20T10:00:00+00:00",
        "far": "290000-01-01", "blob": "YQ==", "nested": {"a": [{"b": None}]}, "m": {"k": [1]}, "n": {"1": "x"},
        "l": [1, None], "text": "é☃", "nothing": None, "yes": True, "span": "1 day, 0:00:00",
        "id": "123e4567-e89b-12d3-a456-426614174000", "a": 1, "a_1": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    """SELECT *, row_number() OVER (PARTITION BY video_id ORDER BY start_time) AS n FROM segments QUALIFY n = 1
    SELECT list_transform("products[].name", lambda x: upper(x)) FROM "{run}"
    SELECT [x for x in keywords if x > 'a'] FROM "{run}"
    SELECT a.* FROM segments a ASOF JOIN segments b ON a.video_id = b.video_id AND a.start_time >= b.start_time
    SELECT * FROM "{run}", LATERAL (SELECT unnest(keywords) AS word)
    SELECT video_id, count(*) FROM segments GROUP BY GROUPING SETS ((video_id), ())
    SELECT * FROM segments USING SAMPLE 2 ROWS
    SELECT DISTINCT ON (video_id) * FROM segments ORDER BY ALL
    SELECT 1 AS a UNION ALL BY NAME SELECT 2 AS b
    WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t
    WITH segments AS (SELECT * FROM segments WHERE status = 'failed') SELECT * FROM segments
    SELECT COLUMNS('.*_time') FROM segments
    SELECT * EXCLUDE (status) REPLACE (1 AS start_time) FROM segments
    SELECT count(*) FILTER (WHERE start_time > 1), string_agg(segment_id, ',' ORDER BY start_time) FROM segments
    SELECT * FROM (PIVOT segments ON status IN ('failed', 'succeeded') USING count(*) GROUP BY video_id)
    SELECT * FROM (UNPIVOT (SELECT segment_id, start_time, end_time FROM segments) ON start_time, end_time)
    FROM segments SELECT video_id
    DESCRIBE segments
    SUMMARIZE "{run}"
    SELECT f.code, m.name FROM failures f JOIN media m USING (run_id, video_id)
    SELECT word.text FROM (SELECT unnest(words) AS word FROM transcripts)
    SELECT fields.scene.location FROM (SELECT NULL::STRUCT(scene STRUCT(location VARCHAR)) AS fields)
    SELECT "main"."segments"."video_id" FROM main.segments
    SELECT * FROM json_each((SELECT metadata FROM results LIMIT 1))
    (SELECT 1) INTERSECT (SELECT 1) -- with a comment at its end""".splitlines(),
)
def test_read_only_sql_of_every_form_is_answered(sql_world, sandbox, statement):
    assert run(sandbox, sql_world, sql_world.filled(statement.strip()))["rows"] is not None


def test_many_parts_are_read(tmp_path, sandbox):
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT range AS a FROM range(10)) TO '{tmp_path}/0.parquet'")
    content = (tmp_path / "0.parquet").read_bytes()
    files = [str(tmp_path / f"{number}.parquet") for number in range(600)]
    for file in files:
        Path(file).write_bytes(content)
    listed = ", ".join(f"'{file}'" for file in files)
    answer = sandbox.run(
        "SELECT count(*) AS n, sum(a) AS s FROM t", {"t": f"SELECT * FROM read_parquet([{listed}])"}, files, row_limit=1
    )
    assert answer["rows"] == [{"n": 6000, "s": 600 * 45}]
    assert hashlib.sha256(content).digest() == hashlib.sha256(Path(files[-1]).read_bytes()).digest()
