"""Routes of SQL over the tables of runs: catalog, query, generated query."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request

from promptreel.api.db.engine import Database
from promptreel.api.search.scope import PLAYGROUND
from promptreel.api.sql.catalog import examples, row_contexts, table_bodies
from promptreel.api.sql.draft import draft_query
from promptreel.api.sql.limits import SqlLimits
from promptreel.api.sql.queries import ScopedTables, query_error, run_query, scoped_tables
from promptreel.api.sql.sandbox import Sandbox, SqlError
from promptreel.api.sql.scope import RunScope
from promptreel.api.uploads.index_rows import owned_index
from promptreel.api.web.auth import Principal, Searcher
from promptreel.api.web.dependencies import Config, DataFolder, Db, part_of
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.wire.sql import (
    ExecuteSql,
    GenerateSql,
    SqlCatalogBody,
    SqlDraft,
    SqlRowsBody,
    SqlScope,
)
from promptreel.tables.storage import Storage


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep query processes ready while the application runs."""
    _sandbox_of(app).warm()
    yield
    _sandbox_of(app).close()


router = APIRouter(prefix="/search/sql", tags=["search"], lifespan=_lifespan, route_class=ApiRoute)


def _sandbox_of(app: FastAPI) -> Sandbox:
    return part_of(app, "sql_sandbox", lambda: Sandbox(getattr(app.state, "sql_limits", None) or SqlLimits()))


async def _sandbox(request: Request) -> Sandbox:
    return _sandbox_of(request.app)


SqlSandbox = Annotated[Sandbox, Depends(_sandbox)]


@router.post("/{index_id}/catalog", response_model=SqlCatalogBody)
def sql_catalog(
    index_id: str, body: SqlScope, caller: Searcher, database: Db, storage: DataFolder, sandbox: SqlSandbox
) -> JsonResponse:
    """Get the tables that queries may use, the limits of queries, and example queries."""
    tables = _tables(database, storage, caller, index_id, body, sandbox.limits)
    return JsonResponse(
        {
            "dialect": "duckdb",
            "tables": table_bodies(tables.views, tables.scope),
            "limits": sandbox.limits.to_wire(),
            "examples": examples(tables.views),
            **_scope_body(tables.scope),
        },
        headers=dict(tables.warnings().headers()),
    )


@router.post("/{index_id}", response_model=SqlRowsBody)
def execute_sql(
    index_id: str, body: ExecuteSql, caller: Searcher, database: Db, storage: DataFolder, sandbox: SqlSandbox
) -> JsonResponse:
    """Run one SELECT statement over the caller's tables in a sandbox."""
    tables = _tables(database, storage, caller, index_id, body, sandbox.limits)
    limit = min(body.result_limit or sandbox.limits.default_rows, sandbox.limits.max_rows)
    started = time.perf_counter()
    result = run_query(sandbox, storage, tables, body.query, limit, caller.account_id)
    return JsonResponse(
        {
            "rows": result["rows"],
            "row_context": row_contexts(result["rows"], result["tables"], tables.scope.run_ids),
            "columns": result["columns"],
            "truncated": result["truncated"],
            "applied_result_limit": limit,
            "duration_ms": round((time.perf_counter() - started) * 1000, 1),
            **_scope_body(tables.scope),
        },
        headers=dict(tables.warnings().headers()),
    )


@router.post("/{index_id}/generate", response_model=SqlDraft)
def generate_sql(
    index_id: str,
    body: GenerateSql,
    caller: Searcher,
    database: Db,
    storage: DataFolder,
    config: Config,
    sandbox: SqlSandbox,
) -> JsonResponse:
    """Generate a query from an instruction with the configured model. The query is validated but not run."""
    tables = _tables(database, storage, caller, index_id, body, sandbox.limits)

    def check(query: str) -> None:
        sandbox.run(
            query, tables.sql_by_name, tables.views.files, row_limit=1, account=caller.account_id, check_only=True
        )

    bodies = table_bodies(tables.views, tables.scope)
    try:
        query, model = draft_query(config, bodies, body.instruction, body.existing_query, check)
    except SqlError as error:
        raise query_error(error, storage, tables) from error
    return JsonResponse({"query": query, "model": model}, headers=dict(tables.warnings().headers()))


def _tables(
    database: Database, storage: Storage, caller: Principal, index_id: str, body: SqlScope, limits: SqlLimits
) -> ScopedTables:
    location = PLAYGROUND if index_id == "playground" else index_id
    if location is not None:
        with database.read() as session:
            owned_index(session, caller, location)
    locations = [location] if body.index_ids is None else list(dict.fromkeys(body.index_ids))
    return scoped_tables(database, storage, caller, locations, body.run_ids, limits)


def _scope_body(scope: RunScope) -> dict[str, Any]:
    return {
        "run_ids": scope.run_ids,
        "runs_left_out": scope.left_out,
        "runs_in_progress": [run.run_id for run in scope.runs if run.manifest.is_interim],
    }
