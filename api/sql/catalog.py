"""The catalog of queryable tables with working examples, and the segment context of result rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from promptreel.api.sql.scope import RunScope
from promptreel.tables.analyst_views import AnalystViews
from promptreel.tables.run_views import quoted
from promptreel.tables.view_columns import AnalystView

_CONTEXT: Final[Mapping[str, tuple[type, ...]]] = {
    "video_id": (str,),
    "segment_id": (str,),
    "run_id": (str,),
    "start_time": (int, float),
    "end_time": (int, float),
}


def table_bodies(views: AnalystViews, scope: RunScope) -> list[dict[str, Any]]:
    """Return the tables in API format."""
    return [
        {
            "name": view.name,
            "run_id": view.run.run_id if view.run is not None else None,
            "prompt_id": scope.prompt_ids[view.run.run_id] if view.run is not None else None,
            "row_count": view.row_count,
            "columns": [
                {"name": column.name, "type": column.type, "field_path": column.field_path} for column in view.columns
            ],
        }
        for view in views.views
    ]


def examples(views: AnalystViews) -> list[dict[str, str]]:
    """Return working queries over these tables; queries over fields use the newest run with a field of that type."""
    shown = [
        _example(
            "Segments by status",
            "SELECT status, count(*) AS segments FROM segments GROUP BY status ORDER BY segments DESC",
        ),
        _example(
            "First segments by item",
            "SELECT video_id, segment_id, run_id, start_time, end_time, status FROM segments "
            "ORDER BY video_id, start_time LIMIT 50",
        ),
        _example(
            "Segment count and duration by item",
            "SELECT m.name, m.video_id, m.run_id, m.segment_count, m.duration_seconds FROM media AS m "
            "ORDER BY m.segment_count DESC LIMIT 50",
        ),
        _example(
            "Failures by operation and code",
            "SELECT operation, code, count(*) AS failures, any_value(message) AS example FROM failures "
            "GROUP BY operation, code ORDER BY failures DESC",
        ),
        _example(
            "Segments in which a word is spoken",
            "SELECT video_id, segment_id, run_id, start_us / 1e6 AS start_time, end_us / 1e6 AS end_time, text "
            "FROM transcripts WHERE text ILIKE '%the%' ORDER BY video_id, start_us LIMIT 50",
        ),
        _example(
            "Newest answers by prompt and version",
            "SELECT prompt_name, prompt_version, count(*) AS segments, max(executed_at) AS newest FROM current_results "
            "GROUP BY prompt_name, prompt_version ORDER BY prompt_name, prompt_version",
        ),
    ]
    for types, build in (
        (("VARCHAR", "BOOLEAN"), _most_frequent_values),
        (("BIGINT", "DOUBLE"), _range),
        (("VARCHAR[]",), _most_frequent_elements),
    ):
        found = next(((view, column.name) for view, column in _fields(views) if column.type in types), None)
        if found is not None:
            shown.append(build(*found))
    return shown


def row_contexts(
    rows: Sequence[Mapping[str, Any]], tables: Sequence[str], run_ids: Sequence[str]
) -> list[dict[str, Any] | None]:
    """Return the segment or item that each row's columns identify; None if they identify neither.

    A row without a run id gets the run of the query if that is unambiguous.

    Args:
        tables: the tables that the query names.
        run_ids: the runs in scope.
    """
    named = set(tables)
    only = list(run_ids) if len(run_ids) == 1 else [run_id for run_id in run_ids if named == {run_id}]
    return [_context(row, run_ids, only[0] if only else None) for row in rows]


def _context(row: Mapping[str, Any], run_ids: Sequence[str], only: str | None) -> dict[str, Any] | None:
    values = {
        name: row[name] if isinstance(row.get(name), types) and not isinstance(row.get(name), bool) else None
        for name, types in _CONTEXT.items()
    }
    if values["segment_id"] is None and values["video_id"] is None:
        return None
    return {**values, "run_id": values["run_id"] if values["run_id"] in run_ids else only}


def _fields(views: AnalystViews) -> list[tuple[AnalystView, Any]]:
    of_runs = [view for view in views.views if view.run is not None]
    return [(view, column) for view in of_runs for column in view.columns if column.field_path is not None]


def _most_frequent_values(view: AnalystView, field: str) -> dict[str, str]:
    return _example(
        f"Most frequent values of {field}",
        f"SELECT {quoted(field)}, count(*) AS segments FROM {quoted(view.name)} "
        "GROUP BY 1 ORDER BY segments DESC, 1 LIMIT 20",
    )


def _range(view: AnalystView, field: str) -> dict[str, str]:
    return _example(
        f"Range of {field} by item",
        f"SELECT video_id, min({quoted(field)}) AS minimum, avg({quoted(field)}) AS average, "
        f"max({quoted(field)}) AS maximum FROM {quoted(view.name)} "
        "GROUP BY video_id ORDER BY average DESC NULLS LAST LIMIT 20",
    )


def _most_frequent_elements(view: AnalystView, field: str) -> dict[str, str]:
    return _example(
        f"Most frequent elements of {field}",
        f"SELECT element, count(*) AS occurrences FROM (SELECT unnest({quoted(field)}) AS element FROM {quoted(view.name)}) "
        "GROUP BY element ORDER BY occurrences DESC, element LIMIT 20",
    )


def _example(title: str, query: str) -> dict[str, str]:
    return {"title": title, "query": query}
