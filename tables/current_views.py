"""Views of the newest answers: for each prompt and segment, the answer that was given last, across runs.

A prompt is its name: runs of all its versions count. Only answers exist as results, so a later failure does not hide an
earlier answer, and an old answer that a new run reuses is as old as its call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from promptreel.schemas.arrow import arrow_schema
from promptreel.schemas.table_rows import TABLES
from promptreel.tables.readable_columns import VIDEO_NAME, with_names
from promptreel.tables.reader import CommittedRun
from promptreel.tables.run_views import quoted, run_view_sql, table_view_sql
from promptreel.tables.view_columns import AnalystView, ViewColumn, common_fields, describe, named_part_sql, part_sql

CURRENT_RESULTS: Final = "current_results"
CURRENT_FIELDS: Final = "current_fields"
_RESULTS: Final = "results"
_RUN_COLUMNS: Final = ("prompt_name", "prompt_version", "run_name")
_ROW_COLUMNS: Final = (
    "run_id", "video_id", VIDEO_NAME, "segment_id", "media_type", "start_time", "end_time", "model", "executed_at",
)  # fmt: skip
_NO_RESULTS: Final = with_names(*(table_view_sql(name, (), arrow_schema(TABLES[name])) for name in (_RESULTS, "media")))
_EMPTY_RUN: Final = 'NULL::VARCHAR AS "prompt_name", NULL::BIGINT AS "prompt_version", NULL::VARCHAR AS "run_name"'


def current_views(runs: Sequence[CommittedRun], files: Mapping[tuple[str, str], Sequence[str]]) -> list[AnalystView]:
    """Build `current_results` and `current_fields` over the runs.

    Args:
        files: local paths of the part files, by run id and table.
    """
    return [_current_results(runs, files), _current_fields(runs, files)]


def _current_results(runs: Sequence[CommittedRun], files: Mapping[tuple[str, str], Sequence[str]]) -> AnalystView:
    shared = arrow_schema(TABLES[_RESULTS])
    names = [name for part in shared.names for name in ((part, VIDEO_NAME) if part == "video_id" else (part,))]
    columns = ", ".join(map(quoted, names))
    empty = f"SELECT {_EMPTY_RUN}, {columns} FROM ({_NO_RESULTS})"
    selects = [f"SELECT {_run_values(run)}, {columns} FROM ({_results_of(run, files)})" for run in runs]
    described = [ViewColumn(name, kind, None) for name, kind in describe(empty)]
    return _view(CURRENT_RESULTS, selects, empty, described, runs, files)


def _current_fields(runs: Sequence[CommittedRun], files: Mapping[tuple[str, str], Sequence[str]]) -> AnalystView:
    columns = ", ".join(f"p.{quoted(name)}" for name in _ROW_COLUMNS)
    empty = f"SELECT {_EMPTY_RUN}, {columns} FROM ({_NO_RESULTS}) AS p"
    fields = common_fields(runs, (*_RUN_COLUMNS, *_ROW_COLUMNS))
    selects = []
    for run in runs:
        parts = _results_of(run, files)
        values = ", ".join([_run_values(run), columns, *fields.expressions(run.run_id, "r")])
        selects.append(
            f"SELECT {values} FROM ({parts}) AS p JOIN ({run_view_sql(run.prompt, f'({parts})')}) AS r "
            "ON r.segment_id = p.segment_id"
        )
    described = [ViewColumn(name, kind, None) for name, kind in describe(empty)]
    return _view(CURRENT_FIELDS, selects, empty, [*described, *fields.columns()], runs, files)


def _view(
    name: str,
    selects: Sequence[str],
    empty: str,
    columns: Sequence[ViewColumn],
    runs: Sequence[CommittedRun],
    files: Mapping[tuple[str, str], Sequence[str]],
) -> AnalystView:
    """Build a view of the newest of the selected answers.

    A join with the newest keys needs memory only for the keys; a window over the rows would need it for all their columns.
    """
    keys = [
        f'SELECT {_text(run.prompt.name)} AS "prompt_name", segment_id, executed_at, run_id '
        f"FROM ({part_sql(_RESULTS, run.prompt, files[run.run_id, _RESULTS])})"
        for run in runs
    ]
    sql = empty
    if selects:
        sql = (
            f"SELECT a.* FROM ({' UNION ALL BY NAME '.join(selects)}) AS a JOIN ("
            'SELECT prompt_name, segment_id, max({"at": executed_at, "run_id": run_id}) AS newest '
            f"FROM ({' UNION ALL BY NAME '.join(keys)}) GROUP BY prompt_name, segment_id) AS n "
            "ON a.prompt_name = n.prompt_name AND a.segment_id = n.segment_id AND a.run_id = n.newest.run_id"
        )
    return AnalystView(name, sql, tuple(columns), None, sum(run.manifest.rows_of(_RESULTS) for run in runs))


def _results_of(run: CommittedRun, files: Mapping[tuple[str, str], Sequence[str]]) -> str:
    return named_part_sql(_RESULTS, run.prompt, files[run.run_id, _RESULTS], files[run.run_id, "media"])


def _run_values(run: CommittedRun) -> str:
    version = "NULL" if run.prompt_version is None else str(run.prompt_version)
    name = "NULL" if run.labels.name is None else _text(run.labels.name)
    return (
        f'{_text(run.prompt.name)} AS "prompt_name", {version}::BIGINT AS "prompt_version", '
        f'{name}::VARCHAR AS "run_name"'
    )


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
