"""The views that analysts query: one per run (named by its id), `segments` over all runs, and the result tables.

Each view is a self-contained SELECT over committed part files, so a query needs only the views that it names.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import pyarrow as pa

from promptreel.schemas.arrow import arrow_schema
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.table_rows import TABLES
from promptreel.tables.interim import reading
from promptreel.tables.part_files import part_paths
from promptreel.tables.reader import CommittedRun, locked_connection
from promptreel.tables.run_views import (
    RUN_VIEW_COLUMNS,
    leaf_columns,
    quoted,
    run_view_sql,
    table_view_sql,
)
from promptreel.tables.storage import Storage
from promptreel.tables.table_schemas import FIELDS, table_schemas

ANALYST_TABLES: Final = ("media", "results", "transcripts", "utterances", "video_results", "failures", "frames")
_SEGMENTS: Final = "segments"
# Callers of the service must not see where it stores media.
_URI_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {"media": ("uri", "other_uris")}


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One column of a view.

    Attributes:
        type: DuckDB type name.
        field_path: path of the prompt's leaf field in this column; None for a column that every run has.
    """

    name: str
    type: str
    field_path: str | None


@dataclass(frozen=True)
class AnalystView:
    """A view over committed tables.

    Attributes:
        sql: its SELECT statement.
        run: the run that it shows; None for a view over all runs.
        row_count: number of rows according to the manifests.
    """

    name: str
    sql: str
    columns: tuple[ViewColumn, ...]
    run: CommittedRun | None
    row_count: int


@dataclass(frozen=True)
class AnalystViews:
    """The views over a set of runs, and the part files that they read."""

    views: tuple[AnalystView, ...]
    files: tuple[str, ...]


def analyst_views(storage: Storage, runs: Sequence[CommittedRun], *, include_uris: bool = False) -> AnalystViews:
    """Build the views over the newest manifests of these runs.

    Args:
        include_uris: whether `media` has the columns `uri` and `other_uris`.

    Raises:
        RunDamaged: a part file of a run is missing or truncated.
    """
    files = _files(storage, runs, (*ANALYST_TABLES, _SEGMENTS))
    views = [_run_view(run, files[run.run_id, "results"]) for run in runs]
    views.append(_segments_view(runs, files))
    views += [
        _table_view(table, runs, files, () if include_uris else _URI_COLUMNS.get(table, ())) for table in ANALYST_TABLES
    ]
    return AnalystViews(tuple(views), tuple(path for group in files.values() for path in group))


def connect_views(storage: Storage, runs: Sequence[CommittedRun]) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB with these views, the other tables of the runs, and `fields`, the view of the first run.

    The connection can read the committed parts of these runs and no other file.
    """
    analyst = analyst_views(storage, runs, include_uris=True)
    others = [table for table in TABLES if table not in (*ANALYST_TABLES, _SEGMENTS)]
    files = _files(storage, runs, others)
    connection = locked_connection([*analyst.files, *(path for group in files.values() for path in group)])
    for view in analyst.views:
        connection.execute(f"CREATE VIEW {quoted(view.name)} AS {view.sql}")
    for table in others:
        view = _table_view(table, runs, files, ())
        connection.execute(f"CREATE VIEW {quoted(table)} AS {view.sql}")
    if runs:
        connection.execute(f'CREATE VIEW "fields" AS SELECT * FROM {quoted(runs[0].run_id)}')
    return connection


def _files(storage: Storage, runs: Sequence[CommittedRun], tables: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """Local paths of the part files, by run id and table."""
    found = {}
    for run in runs:
        with reading(run.manifest):
            for table in tables:
                paths = part_paths(storage, run.run_id, run.manifest.parts_of(table))
                found[run.run_id, table] = [str(path) for path in paths]
    return found


def _run_view(run: CommittedRun, files: Sequence[str]) -> AnalystView:
    sql = run_view_sql(run.prompt, f"({_part_sql('results', run.prompt, files)})")
    return AnalystView(run.run_id, sql, _run_columns(run.prompt), run, run.manifest.rows_of("results"))


def _run_columns(prompt: Prompt) -> tuple[ViewColumn, ...]:
    columns_of_view = _describe(run_view_sql(prompt, f"({_part_sql('results', prompt, ())})"))
    segment_columns, field_columns = columns_of_view[: len(RUN_VIEW_COLUMNS)], columns_of_view[len(RUN_VIEW_COLUMNS) :]
    columns = [ViewColumn(name, kind, None) for name, kind in segment_columns]
    for (name, kind), (path, _) in zip(field_columns, leaf_columns(prompt), strict=True):
        columns.append(ViewColumn(name, kind, path))
    return tuple(columns)


def _segments_view(runs: Sequence[CommittedRun], files: Mapping[tuple[str, str], Sequence[str]]) -> AnalystView:
    """Every segment of the runs with its outcome, and its leaf fields if it has a result.

    A field whose type differs between prompts is a DOUBLE if all its types are numeric, otherwise JSON text.
    """
    segment_columns = _describe(table_view_sql(_SEGMENTS, (), arrow_schema(TABLES[_SEGMENTS])))
    taken = {name.lower() for name, _ in segment_columns}
    fields: dict[str, dict[str, ViewColumn]] = {}  # run id -> name in `segments` -> column of the run's view
    types: dict[str, set[str]] = {}
    for run in runs:
        leaves = {_field_name(column.name, taken): column for column in _run_columns(run.prompt) if column.field_path}
        fields[run.run_id] = leaves
        for name, column in leaves.items():
            types.setdefault(name.lower(), set()).add(column.type)
    selects = []
    for run in runs:
        leaves = fields[run.run_id]
        columns = [
            f"{_as_common(f'r.{quoted(column.name)}', types[name.lower()])} AS {quoted(name)}"
            for name, column in leaves.items()
        ]
        segments = _part_sql(_SEGMENTS, run.prompt, files[run.run_id, _SEGMENTS])
        results = run_view_sql(run.prompt, f"({_part_sql('results', run.prompt, files[run.run_id, 'results'])})")
        selects.append(
            f"SELECT {', '.join(['s.*', *columns])} FROM ({segments}) AS s "
            f"LEFT JOIN ({results}) AS r ON r.segment_id = s.segment_id"
        )
    sql = _union(selects, _SEGMENTS)
    view_columns = [ViewColumn(name, kind, None) for name, kind in segment_columns]
    seen: set[str] = set()
    for leaves in fields.values():
        for name, column in leaves.items():
            if name.lower() not in seen:
                seen.add(name.lower())
                view_columns.append(ViewColumn(name, _common_type(types[name.lower()]), column.field_path))
    return AnalystView(_SEGMENTS, sql, tuple(view_columns), None, sum(run.manifest.rows_of(_SEGMENTS) for run in runs))


def _table_view(
    table: str,
    runs: Sequence[CommittedRun],
    files: Mapping[tuple[str, str], Sequence[str]],
    hidden: Sequence[str],
) -> AnalystView:
    """One table over all runs. Its struct `fields` is omitted if its type differs between the prompts."""
    schemas = [table_schemas(run.prompt)[table] for run in runs] or [arrow_schema(TABLES[table])]
    same_type = all(_fields_type(schema) == _fields_type(schemas[0]) for schema in schemas)
    selected = [
        name
        for name in dict.fromkeys(name for schema in schemas for name in schema.names)
        if name not in hidden and (same_type or name != FIELDS)
    ]
    columns = ", ".join(map(quoted, selected))
    selects = [f"SELECT {columns} FROM ({_part_sql(table, run.prompt, files[run.run_id, table])})" for run in runs]
    empty = f"SELECT {columns} FROM ({table_view_sql(table, (), schemas[0])})"
    view_columns = tuple(ViewColumn(name, kind, None) for name, kind in _describe(empty))
    rows = sum(run.manifest.rows_of(table) for run in runs)
    return AnalystView(table, _union(selects, table) if runs else empty, view_columns, None, rows)


def _part_sql(table: str, prompt: Prompt, files: Sequence[str]) -> str:
    return table_view_sql(table, files, table_schemas(prompt)[table])


def _union(selects: Sequence[str], table: str) -> str:
    if not selects:
        return table_view_sql(table, (), arrow_schema(TABLES[table]))
    return " UNION ALL BY NAME ".join(selects)


def _fields_type(schema: pa.Schema) -> str | None:
    return str(schema.field(FIELDS).type) if FIELDS in schema.names else None


def _field_name(name: str, taken: set[str]) -> str:
    """A field's name in `segments`, prefixed with `metadata.` if a segment column already has that name."""
    return f"metadata.{name}" if name.lower() in taken else name


def _common_type(types: set[str]) -> str:
    if len(types) == 1:
        return next(iter(types))
    return "DOUBLE" if types <= {"BIGINT", "DOUBLE"} else "VARCHAR"


def _as_common(value: str, types: set[str]) -> str:
    if len(types) == 1:
        return value
    if types <= {"BIGINT", "DOUBLE"}:
        return f"CAST({value} AS DOUBLE)"
    return f"CASE WHEN {value} IS NOT NULL THEN CAST(to_json({value}) AS VARCHAR) END"


@functools.lru_cache(maxsize=256)
def _describe(select: str) -> tuple[tuple[str, str], ...]:
    """Names and DuckDB types of a SELECT's columns."""
    return tuple(_rows_of(f"DESCRIBE {select}"))


def _rows_of(statement: str) -> Iterator[tuple[str, str]]:
    with duckdb.connect(":memory:", config={"threads": 1, "autoload_known_extensions": "false"}) as connection:
        for row in connection.execute(statement).fetchall():
            yield str(row[0]), str(row[1])
