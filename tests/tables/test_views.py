"""Views over prompts that are difficult in SQL: keys that differ only in case, and a field with two types."""

import json

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptreel.schemas.arrow import arrow_type_of_node
from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.field_paths import parse_schema
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables import layout
from promptreel.tables.analyst_views import analyst_views, connect_views
from promptreel.tables.diff import RunDiff
from promptreel.tables.reader import committed_run, connect, query
from promptreel.tables.run_views import duckdb_type, write_views
from promptreel.tables.storage import open_storage
from tests.synthetic_runs import make_run, segment_id


def prompt_of(properties):
    schema = {"type": "object", "properties": properties}
    return prompt_from_dict({"name": "any", "prompt_text": "Say what is seen.", "json_schema": schema})


NAMES = {"type": "object", "properties": {"Name": {"type": "string"}, "name": {"type": "integer"}}}
CASES = prompt_of({"who": NAMES, "many": {"type": "array", "items": NAMES}, "Who": {"type": "string"}})
ANSWERS = [
    {"who": {"Name": "Ada", "name": 1}, "many": [{"Name": "a", "name": 2}, {"name": 3}], "Who": "W"},
    {"who": {"name": 4}, "Who": "X"},
    {"who": {"Name": "Bob"}},
]
# The rows of the run's view, written by hand; the second of two equal names has the prefix.
ROWS = [
    {"who.Name": "Ada", "metadata.who.name": 1, "many[].Name": ["a", None], "metadata.many[].name": [2, 3], "Who": "W"},
    {"who.Name": None, "metadata.who.name": 4, "many[].Name": None, "metadata.many[].name": None, "Who": "X"},
    {"who.Name": "Bob", "metadata.who.name": None, "many[].Name": None, "metadata.many[].name": None, "Who": None},
]


def test_keys_differing_only_in_case_are_separate_columns(tmp_path):
    storage = open_storage(tmp_path)
    run = committed_run(storage, make_run(storage, {"v": ANSWERS}, CASES))
    columns = ", ".join(f'"{name}"' for name in ROWS[0])
    with connect(storage, run) as connection:
        assert query(connection, f"SELECT {columns} FROM fields ORDER BY start_time").to_pylist() == ROWS
    with connect_views(storage, [run]) as connection:
        assert query(connection, f"SELECT {columns} FROM segments ORDER BY start_time").to_pylist() == ROWS
    views = {view.name: view for view in analyst_views(storage, [run]).views}
    paths = {column.name: column.field_path for column in views[run.run_id].columns if column.field_path}
    assert paths == {name: name.removeprefix("metadata.") for name in ROWS[0]}


def test_views_script_separates_such_keys_in_plain_duckdb(tmp_path, monkeypatch):
    storage = open_storage(tmp_path)
    run = committed_run(storage, make_run(storage, {"v": ANSWERS}, CASES))
    write_views(storage, run.prompt, run.manifest)
    monkeypatch.chdir(tmp_path / layout.run_folder(run.run_id))
    with duckdb.connect() as connection:
        connection.execute((tmp_path / layout.views_file(run.run_id)).read_text())
        found = connection.execute('SELECT "who.Name", "metadata.who.name" FROM fields ORDER BY start_time').fetchall()
    assert found == [("Ada", 1), (None, 4), ("Bob", None)]


def test_diff_separates_keys_differing_only_in_case(tmp_path):
    storage = open_storage(tmp_path)
    changed = json.loads(json.dumps(ANSWERS))
    changed[0]["who"]["name"] = 7
    changed[0]["many"][1]["Name"] = "b"
    before, after = (committed_run(storage, make_run(storage, {"v": side}, CASES)) for side in (ANSWERS, changed))
    rows = [change for _, change in RunDiff(storage, before, after).rows()]
    assert [(row.segment_id, row.field, row.before, row.after) for row in rows] == [
        (segment_id("v", 0), "who.name", 1, 7),
        (segment_id("v", 0), "many[].Name", ["a", None], ["a", "b"]),
    ]


@pytest.mark.parametrize("keys", ["Name name NAME", "a A A_1 a_1 a_2", "É é", "x y"])
def test_table_without_parts_has_the_same_types(tmp_path, keys):
    node = parse_schema({"type": "object", "properties": {key: {"type": "string"} for key in keys.split()}})
    kind = arrow_type_of_node(node)
    pq.write_table(pa.table({"fields": pa.array([{}], kind)}), tmp_path / "part.parquet")
    with duckdb.connect() as connection:
        read = connection.execute("SELECT fields FROM read_parquet($file)", {"file": str(tmp_path / "part.parquet")})
        empty = connection.execute(f"SELECT NULL::{duckdb_type(kind)} AS fields")
        assert str(empty.description[0][1]) == str(read.description[0][1])


FIELD_TYPES = {
    "string": ({"type": "string"}, "two"),
    "integer": ({"type": "integer"}, 2),
    "number": ({"type": "number"}, 2.5),
    "boolean": ({"type": "boolean"}, True),
    "list": ({"type": "array", "items": {"type": "string"}}, ["two"]),
    "object": ({"type": "object", "properties": {"deep": {"type": "string"}}}, {"deep": "two"}),
}


@pytest.mark.parametrize("first", FIELD_TYPES)
@pytest.mark.parametrize("second", FIELD_TYPES)
def test_field_with_two_types_retains_both_values(tmp_path, first, second):
    storage = open_storage(tmp_path)
    runs = []
    for kind, video in ((first, "v"), (second, "w")):
        schema, value = FIELD_TYPES[kind]
        run_id = make_run(storage, {video: [{"same": value}]}, prompt_of({"same": schema}))
        runs.append(committed_run(storage, run_id))
    with connect_views(storage, runs) as connection:
        results = query(connection, "SELECT * FROM results ORDER BY video_id").to_pylist()
        rows = query(connection, "SELECT * FROM segments ORDER BY video_id").to_pylist()
    assert [json.loads(row["metadata"])["same"] for row in results] == [FIELD_TYPES[first][1], FIELD_TYPES[second][1]]
    assert ("fields" in results[0]) == (first == second)
    for kind, row in zip((first, second), rows, strict=True):
        value = row["same.deep"] if kind == "object" else row["same"]
        expected = "two" if kind == "object" else FIELD_TYPES[kind][1]
        others = {first, second} - {"object"}
        as_json = len(others) == 2 and others != {"integer", "number"} and kind != "object"
        assert (json.loads(value) if as_json else value) == expected


JSON_FIELDS = prompt_of(
    {
        "size": {"type": ["integer", "string"]},
        "box": {"type": "array", "items": [{"type": "integer"}, {"type": "string"}]},
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "events": {"type": "array", "items": {"oneOf": [{"type": "integer"}, {"type": "string"}]}},
    }
)
JSON_ANSWERS = [{"size": 2, "box": [1, "x"], "counts": {"dogs": 2}, "events": [1, "x"]}, {"size": "large"}]


def test_unions_tuples_and_dictionaries_are_json_columns(tmp_path):
    storage = open_storage(tmp_path)
    changed = [{**JSON_ANSWERS[0], "counts": {"dogs": 3}}, {"size": 3}]
    answers = (JSON_ANSWERS, changed)
    before, after = (committed_run(storage, make_run(storage, {"v": side}, JSON_FIELDS)) for side in answers)
    select = "SELECT size, box ->> '$[1]' AS word, counts ->> '$.dogs' AS dogs, events FROM fields ORDER BY start_time"
    with connect(storage, before) as connection:
        assert query(connection, select).to_pylist() == [
            {"size": "2", "word": "x", "dogs": "2", "events": ["1", '"x"']},
            {"size": '"large"', "word": None, "dogs": None, "events": None},
        ]
    changes = [(row.field, row.before, row.after) for _, row in RunDiff(storage, before, after).rows()]
    assert changes == [("counts", {"dogs": 2}, {"dogs": 3}), ("size", "large", 3)]


@pytest.mark.parametrize("limit", [1, 3, 50, 51])
def test_filter_order_and_limit_on_a_field(tmp_path, limit):
    prompt = prompt_of({"seconds": {"type": "number"}})
    storage = open_storage(tmp_path)
    run = committed_run(storage, make_run(storage, {"v": [{"seconds": float(n)} for n in range(60)]}, prompt))
    statement = f"SELECT * FROM fields WHERE seconds >= 5 ORDER BY start_time LIMIT {limit}"
    with connect(storage, run) as connection:
        rows = query(connection, statement).to_pylist()
    assert [row["seconds"] for row in rows] == [float(n) for n in range(5, 60)][:limit]


def test_connection_to_one_run_cannot_query_another(tmp_path):
    storage = open_storage(tmp_path)
    run, other = (committed_run(storage, make_run(storage, {"v": ANSWERS}, CASES)) for _ in range(2))
    with connect(storage, run) as connection:
        assert query(connection, "SELECT DISTINCT run_id FROM results").to_pylist() == [{"run_id": run.run_id}]
        with pytest.raises(InvalidInput, match=other.run_id):
            query(connection, f'SELECT * FROM "{other.run_id}"')


def test_columns_report_their_fields_despite_case(tmp_path):
    storage = open_storage(tmp_path)
    prompt = prompt_of({key: {"type": "string"} for key in ("name", "Name", "NAME", "video_id")})
    run_id = make_run(storage, {"vid_a": [{"name": "one", "Name": "two", "NAME": "three", "video_id": "four"}]}, prompt)
    (view,) = [view for view in analyst_views(storage, [committed_run(storage, run_id)]).views if view.name == run_id]
    (row,) = duckdb.sql(view.sql).fetchall()
    values = {column.field_path: value for column, value in zip(view.columns, row, strict=True) if column.field_path}
    assert values == {"name": "one", "Name": "two", "NAME": "three", "video_id": "four"}
