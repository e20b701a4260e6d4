"""The views that analysts query: one per run (named by its id), `segments` over all runs, the result tables, and the newest
answers.

Each view is a self-contained SELECT over committed part files, so a query needs only the views that it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import pyarrow as pa

from promptreel.schemas.arrow import arrow_schema
from promptreel.schemas.table_rows import TABLES
from promptreel.tables.current_views import current_views
from promptreel.tables.evidence_views import FIELD_EVIDENCE, evidence_columns
from promptreel.tables.interim import reading
from promptreel.tables.part_files import part_paths
from promptreel.tables.readable_columns import TABLES_WITH_FILES, sql_path, with_names, with_paths
from promptreel.tables.reader import CommittedRun, locked_connection
from promptreel.tables.run_views import quoted, run_view_sql, table_view_sql
from promptreel.tables.storage import Storage
from promptreel.tables.table_schemas import FIELDS, table_schemas
from promptreel.tables.view_columns import (
    AnalystView,
    ViewColumn,
    common_fields,
    describe,
    named_part_sql,
    part_sql,
    run_columns,
)

ANALYST_TABLES: Final = (
    "media", "results", FIELD_EVIDENCE, "transcripts", "utterances", "video_results", "failures", "frames",
)  # fmt: skip
_SEGMENTS: Final = "segments"
_TABLES_WITH_NAMES: Final = frozenset({"results"})  # and the views with leaf fields
_NO_MEDIA: Final = table_view_sql("media", (), arrow_schema(TABLES["media"]))
# Callers of the service must not see where it stores media.
_URI_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {"media": ("uri", "other_uris")}


@dataclass(frozen=True)
class AnalystViews:
    """The views over a set of runs, and the part files that they read."""

    views: tuple[AnalystView, ...]
    files: tuple[str, ...]


def analyst_views(storage: Storage, runs: Sequence[CommittedRun], *, include_uris: bool = False) -> AnalystViews:
    """Build the views over the newest manifests of these runs.

    Args:
        include_uris: whether `media` has the columns `uri` and `other_uris`, and `frames` the column `path`.

    Raises:
        RunDamaged: a part file of a run is missing or truncated.
    """
    files = _files(storage, runs, (*ANALYST_TABLES, _SEGMENTS))
    views = [_run_view(run, files) for run in runs]
    views.append(_segments_view(runs, files))
    root = storage.root if include_uris else None
    views += [
        _table_view(table, runs, files, () if include_uris else _URI_COLUMNS.get(table, ()), root)
        for table in ANALYST_TABLES
    ]
    views += current_views(runs, files)
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
        view = _table_view(table, runs, files, (), storage.root)
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


def _run_view(run: CommittedRun, files: Mapping[tuple[str, str], Sequence[str]]) -> AnalystView:
    results = f"({_named_sql('results', run, files)})"
    evidence = f"({part_sql(FIELD_EVIDENCE, run.prompt, files[run.run_id, FIELD_EVIDENCE])})"
    columns = run_columns(run.prompt)
    added = evidence_columns([column.name for column in columns], run.evidence_fields)
    return AnalystView(
        run.run_id,
        run_view_sql(run.prompt, results, run.evidence_fields, evidence),
        (*columns, *(ViewColumn(name, kind, None) for name, kind in added)),
        run,
        run.manifest.rows_of("results"),
    )


def _segments_view(runs: Sequence[CommittedRun], files: Mapping[tuple[str, str], Sequence[str]]) -> AnalystView:
    """Every segment of the runs with its outcome, and its leaf fields if it has a result."""
    empty = with_names(table_view_sql(_SEGMENTS, (), arrow_schema(TABLES[_SEGMENTS])), _NO_MEDIA)
    segment_columns = describe(empty)
    fields = common_fields(runs, [name for name, _ in segment_columns])
    selects = []
    for run in runs:
        segments = _named_sql(_SEGMENTS, run, files)
        results = run_view_sql(run.prompt, f"({_named_sql('results', run, files)})")
        selects.append(
            f"SELECT {', '.join(['s.*', *fields.expressions(run.run_id, 'r')])} FROM ({segments}) AS s "
            f"LEFT JOIN ({results}) AS r ON r.segment_id = s.segment_id"
        )
    sql = " UNION ALL BY NAME ".join(selects) or empty
    view_columns = [ViewColumn(name, kind, None) for name, kind in segment_columns] + fields.columns()
    return AnalystView(_SEGMENTS, sql, tuple(view_columns), None, sum(run.manifest.rows_of(_SEGMENTS) for run in runs))


def _table_view(
    table: str,
    runs: Sequence[CommittedRun],
    files: Mapping[tuple[str, str], Sequence[str]],
    hidden: Sequence[str],
    root: str | None,
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
    selects = [f"SELECT {columns} FROM ({part_sql(table, run.prompt, files[run.run_id, table])})" for run in runs]
    empty = f"SELECT {columns} FROM ({table_view_sql(table, (), schemas[0])})"
    if table in _TABLES_WITH_NAMES:
        media = [part_sql("media", run.prompt, files[run.run_id, "media"]) for run in runs]
        selects = [with_names(select, names) for select, names in zip(selects, media, strict=True)]
        empty = with_names(empty, _NO_MEDIA)
    if table in TABLES_WITH_FILES and root is not None:
        selects, empty = [with_paths(select, sql_path(root)) for select in selects], with_paths(empty, sql_path(root))
    view_columns = tuple(ViewColumn(name, kind, None) for name, kind in describe(empty))
    rows = sum(run.manifest.rows_of(table) for run in runs)
    return AnalystView(table, " UNION ALL BY NAME ".join(selects) or empty, view_columns, None, rows)


def _named_sql(table: str, run: CommittedRun, files: Mapping[tuple[str, str], Sequence[str]]) -> str:
    return named_part_sql(table, run.prompt, files[run.run_id, table], files[run.run_id, "media"])


def _fields_type(schema: pa.Schema) -> str | None:
    return str(schema.field(FIELDS).type) if FIELDS in schema.names else None
