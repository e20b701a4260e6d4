"""Generated schemas and answers, from the model's text to a Parquet file: no loss, no wrong time, no wrong type.

The long run (5,000 cases) is: ./run_local.sh test -m slow -n 0 tests/transforms/test_schema_fuzz.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, note, settings

from promptreel.api.search.filter_sql import compile_filter, filter_fields
from promptreel.providers.answers import check_answer
from promptreel.providers.base import ModelAnswer, SegmentInput, Usage
from promptreel.providers.extraction import extraction_request, to_item_times
from promptreel.providers.gemini_schema import wire_schema
from promptreel.schemas.arrow import to_table
from promptreel.schemas.field_paths import leaf_fields, parse_schema
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.prompt import Prompt, prompt_from_dict
from promptreel.schemas.validation import validator_of
from promptreel.schemas.wire.filter import TextCondition
from promptreel.tables.run_views import duckdb_type, run_view_sql
from promptreel.tables.table_schemas import table_schemas
from promptreel.transforms.rows.segment_rows import result_rows
from promptreel.transforms.rows.source import AnswerFields
from tests.brought_schemas import Case, Column, cases

ARROW = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "json": pa.string(),
}
QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)


@given(case=cases())
@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
def test_answer_arrives_in_its_columns_in_item_time(tmp_path, case):
    check_case(case, tmp_path)


@pytest.mark.slow
@given(case=cases())
@settings(max_examples=5_000, deadline=None, suppress_health_check=QUIET)
def test_many_answers_arrive_in_their_columns_in_item_time(tmp_path, case):
    check_case(case, tmp_path)


def check_case(case: Case, folder: Path) -> None:
    """Check one case from its schema to the rows that DuckDB reads."""
    note(json.dumps({"schema": case.schema, "written": case.written, "stored": case.stored}, ensure_ascii=False))
    prompt = prompt_from_dict({"name": "any", "prompt_text": "Say what is seen.", "json_schema": case.schema})
    assert [(leaf.path, leaf.type, leaf.list_depth) for leaf in prompt.leaves] == list(leaves_of(case.columns))
    metadata = stored_metadata(prompt, case)
    assert metadata == case.stored
    row, types = written_row(prompt, metadata, folder)
    assert json.loads(row["metadata"]) == case.stored
    assert types["fields"] == shown_type(arrow_type(("object", case.columns)))
    assert same_cell(("object", case.columns), list(row["fields"].values()), case.stored)
    for text in texts_of(case.stored):
        assert text in row["metadata_text"]


def stored_metadata(prompt: Prompt, case: Case) -> dict[str, Any]:
    """Return what field extraction stores of a case's answer."""
    start_us = case.start_ms * 1000
    media = SegmentInput("video", Path("."), TimeSpan(start_us, start_us + 10**11), (), None, "item", 10**12, ())
    request = extraction_request(prompt, media)
    checked = check_answer(ModelAnswer(json.dumps(case.written), "STOP", Usage(input_tokens=1)), request)
    assert validator_of(wire_schema(prompt.json_schema)).is_valid(checked.metadata)
    metadata, warning = to_item_times(checked.metadata, prompt.json_schema, media)
    assert warning is None
    return metadata


def written_row(prompt: Prompt, metadata: dict[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the row of a result to a Parquet file; return it and the types of its columns, as DuckDB reads them."""
    node = parse_schema(prompt.json_schema)
    result = {"metadata": metadata, "model": "m", "warning": None, "llm_call_ids": [], "executed_at": "now"}
    source = SimpleNamespace(
        run_id="run_1", prompt=prompt, fields=AnswerFields(node, leaf_fields(node)), result_of=lambda outcome: result
    )
    task = SimpleNamespace(
        video_id="v",
        segment_id="s",
        media_type="video",
        answered_by=None,
        planned=SimpleNamespace(span=TimeSpan(0, 10**6)),
    )
    outcome = SimpleNamespace(outcome="succeeded", reused=False, key="k")
    segment = SimpleNamespace(task=task, outcome_of=lambda operation: outcome)
    schema = table_schemas(prompt)["results"]
    file = folder / "part.parquet"
    pq.write_table(to_table(schema, result_rows(segment, source)), file)
    select = f"SELECT * FROM read_parquet('{file}')"
    with duckdb.connect(config={"threads": 1}) as connection:
        cursor = connection.execute(select)
        names = [(column[0], str(column[1])) for column in cursor.description]
        (values,) = cursor.fetchall()
        connection.execute(run_view_sql(prompt, f"(SELECT *, 'v.mp4' AS video_name FROM ({select}))")).fetchall()
        check_filters(connection, select, prompt, metadata)
    return dict(zip((name for name, _ in names), values, strict=True)), dict(names)


def check_filters(connection: Any, select: str, prompt: Prompt, metadata: dict[str, Any]) -> None:
    """Check that a filter finds each text of a field that is stored as JSON."""
    struct = connection.execute(f"SELECT fields FROM ({select})").description[0][1]
    fields = filter_fields(prompt, struct)
    for leaf in prompt.leaves:
        if leaf.type == "json" and leaf.path in metadata:
            for text in texts_of(metadata[leaf.path]):
                condition = TextCondition(field=leaf.path, type="string", operator="contains", value=text)
                where, parameters = compile_filter([condition], fields)
                assert connection.execute(f"SELECT 1 FROM ({select}) WHERE {where}", parameters).fetchall()


def leaves_of(columns: dict[str, Column], path: str = "", depth: int = 0) -> Iterator[tuple[str, str, int]]:
    """Yield (path, type, list depth) of each column."""
    for name, column in columns.items():
        inner, lists, below = column, 0, f"{path}{name}"
        while inner[0] == "array":
            inner, lists = inner[1], lists + 1
        if inner[0] == "object":
            yield from leaves_of(inner[1], below + ("[]." if lists else "."), depth + lists)
        else:
            yield below, inner, depth + lists


def shown_type(kind: pa.DataType) -> str:
    """Return a type as DuckDB shows it."""
    return str(duckdb.execute(f"SELECT NULL::{duckdb_type(kind)}").description[0][1])


def arrow_type(column: Column) -> pa.DataType:
    """Return the Arrow type of a column."""
    if isinstance(column, str):
        return ARROW[column]
    if column[0] == "array":
        return pa.list_(arrow_type(column[1]))
    return pa.struct([pa.field(name, arrow_type(inner)) for name, inner in column[1].items()])


def same_cell(column: Column, cell: Any, value: Any) -> bool:
    """Return whether a cell holds a value; an object's cell is the list of its fields, or a dict."""
    if value is None or cell is None:
        return value is None and cell is None
    if column == "json":
        return json.loads(cell) == value
    if isinstance(column, str):
        is_same_type = column == "number" or type(cell) is type(value)
        return cell == value and is_same_type
    if column[0] == "array":
        return len(cell) == len(value) and all(same_cell(column[1], *pair) for pair in zip(cell, value, strict=True))
    cells = list(cell.values()) if isinstance(cell, dict) else cell
    return len(cells) == len(column[1]) and all(
        same_cell(inner, at, value.get(name)) for (name, inner), at in zip(column[1].items(), cells, strict=True)
    )


def texts_of(value: Any) -> Iterator[str]:
    """Yield the scalars of a value as text."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts_of(part)
    elif value is not None:
        yield value if isinstance(value, str) else json.dumps(value)
