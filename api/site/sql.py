"""The page of SQL: a query, the catalog, and the result as a table or a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from promptreel.api.routes.sql import SqlSandbox
from promptreel.api.site.links import item_path
from promptreel.api.site.scopes import PageScope, page_scope
from promptreel.api.sql.catalog import examples, row_contexts, table_bodies
from promptreel.api.sql.queries import ScopedTables, run_query, scoped_tables
from promptreel.api.web.auth import Searcher
from promptreel.api.web.dependencies import DataFolder, Db
from promptreel.api.web.errors import ApiError
from promptreel.api.web.page import page
from promptreel.pages.answers import shorten

router = APIRouter()

_MAX_SHOWN_ROWS: Final = 500
_MAX_CELL_CHARS: Final = 300
_MAX_TABLE_CHARS: Final = 200_000

RunIds = Annotated[list[str] | None, Query(max_length=100)]
Sql = Annotated[str, Query(max_length=8_000)]


@dataclass(frozen=True, slots=True)
class SqlQuery:
    """The query of the page.

    Attributes:
        index, run_ids: see `PageScope`.
    """

    text: str
    index: str = ""
    run_ids: tuple[str, ...] = ()

    def url(self, path: str = "/sql", **changes: Any) -> str:
        """Return the URL of this query with other values; `text` changes the statement."""
        text = changes.pop("text", self.text)
        pairs = [("q", text), ("index", self.index), *(("run", run_id) for run_id in self.run_ids), *changes.items()]
        kept = [(name, value) for name, value in pairs if value]
        return path + (f"?{urlencode(kept)}" if kept else "")


@dataclass(frozen=True, slots=True)
class ResultTable:
    """A result as a page shows it.

    Attributes:
        links: by row, the URL of the segment or item that it is about; None if it is unknown.
        note: what is left out.
    """

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str | None, ...], ...]
    links: tuple[str | None, ...]
    note: str | None


@router.get("/sql")
def sql_page(
    request: Request,
    caller: Searcher,
    database: Db,
    storage: DataFolder,
    sandbox: SqlSandbox,
    q: Sql = "",
    index: Annotated[str, Query(max_length=255)] = "",
    run: RunIds = None,
) -> Response:
    """Show the catalog and, with a query, its result."""
    query = SqlQuery(q.strip(), index, tuple(run or ()))
    with database.read() as session:
        scope = page_scope(session, caller, index, query.run_ids)
    tables = scoped_tables(database, storage, caller, scope.locations, scope.run_ids or None, sandbox.limits)
    table, error = None, None
    if query.text:
        try:
            result = run_query(sandbox, storage, tables, query.text, _MAX_SHOWN_ROWS, caller.account_id)
            table = _table(result, tables)
        except ApiError as problem:
            error = problem
    return page(
        request,
        "sql.html",
        status=200 if error is None else error.status,
        query=query,
        scope=scope,
        catalog=table_bodies(tables.views, tables.scope),
        examples=examples(tables.views),
        runs=len(tables.scope.runs),
        left_out=tables.scope.left_out,
        table=table,
        error=error,
    )


@router.get("/sql/result.{kind}")
def sql_result(
    kind: Literal["csv", "parquet"],
    caller: Searcher,
    database: Db,
    storage: DataFolder,
    sandbox: SqlSandbox,
    q: Sql,
    index: Annotated[str, Query(max_length=255)] = "",
    run: RunIds = None,
) -> Response:
    """Download the result of a query, with as many rows as the API returns."""
    with database.read() as session:
        scope: PageScope = page_scope(session, caller, index, run or ())
    tables = scoped_tables(database, storage, caller, scope.locations, scope.run_ids or None, sandbox.limits)
    result = run_query(sandbox, storage, tables, q.strip(), sandbox.limits.max_rows, caller.account_id)
    names = [column["name"] for column in result["columns"]]
    content = _csv(names, result["rows"]) if kind == "csv" else _parquet(names, result["rows"])
    headers = {
        "Content-Disposition": f'attachment; filename="result.{kind}"',
        "Content-Type": "text/csv; charset=utf-8" if kind == "csv" else "application/vnd.apache.parquet",
        "X-Content-Type-Options": "nosniff",
        "X-Result-Truncated": str(result["truncated"]).lower(),
    }
    return Response(content, headers=headers)


def _table(result: Mapping[str, Any], tables: ScopedTables) -> ResultTable:
    columns = tuple((column["name"], column["type"]) for column in result["columns"])
    contexts = row_contexts(result["rows"], result["tables"], tables.scope.run_ids)
    rows: list[tuple[str | None, ...]] = []
    left = _MAX_TABLE_CHARS
    for row in result["rows"]:
        cells = tuple(_cell(row[name]) for name, _ in columns)
        left -= sum(len(cell or "") + 20 for cell in cells)
        if left < 0:
            break
        rows.append(cells)
    is_cut = result["truncated"] or len(rows) < len(result["rows"])
    note = f"Only the first {len(rows):,} rows are shown; download the result or add a LIMIT." if is_cut else None
    return ResultTable(columns, tuple(rows), tuple(map(_link, contexts[: len(rows)])), note)


def _cell(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shorten(text, _MAX_CELL_CHARS)


def _link(context: Mapping[str, Any] | None) -> str | None:
    if context is None or context["run_id"] is None or context["video_id"] is None:
        return None
    return item_path(context["run_id"], context["video_id"], context["segment_id"])


def _csv(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    target = io.StringIO(newline="")
    writer = csv.writer(target)
    writer.writerow(names)
    for row in rows:
        values = (row[name] for name in names)
        writer.writerow([json.dumps(v, ensure_ascii=False) if isinstance(v, list | dict) else v for v in values])
    return target.getvalue().encode("utf-8", "replace")


def _parquet(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Write rows as Parquet; a column whose values have several types is JSON text."""
    columns: list[pa.Array] = []
    for name in names:
        values = [row[name] for row in rows]
        try:
            columns.append(pa.array(values))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            columns.append(pa.array([None if value is None else json.dumps(value) for value in values]))
    target = io.BytesIO()
    pq.write_table(pa.table(columns, names=list(names)), target)
    return target.getvalue()
