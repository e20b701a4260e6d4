"""Run SQL over the tables of the runs in a scope, for the API and for pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptreel.api.db.engine import Database
from promptreel.api.search.ranking import Warnings
from promptreel.api.sql.limits import SqlLimits
from promptreel.api.sql.sandbox import Sandbox, SqlError
from promptreel.api.sql.scope import RunScope, runs_in_scope
from promptreel.api.web.auth import Principal
from promptreel.api.web.damage import report_skipped
from promptreel.api.web.errors import ApiError
from promptreel.tables.analyst_views import AnalystViews, analyst_views
from promptreel.tables.interim import reading
from promptreel.tables.part_files import check_parts
from promptreel.tables.storage import Storage


@dataclass(frozen=True)
class ScopedTables:
    """The runs and views that a query may read."""

    scope: RunScope
    views: AnalystViews

    @property
    def sql_by_name(self) -> dict[str, str]:
        return {view.name: view.sql for view in self.views.views}

    def warnings(self) -> Warnings:
        """Return the damaged runs that are left out."""
        warnings = Warnings()
        for error in self.scope.damaged:
            warnings.add(report_skipped(error))
        return warnings


def scoped_tables(
    database: Database,
    storage: Storage,
    caller: Principal,
    index_ids: Sequence[str | None],
    run_ids: Sequence[str] | None,
    limits: SqlLimits,
) -> ScopedTables:
    """Return the tables of runs over some indexes; see `runs_in_scope` for the arguments and errors."""
    with database.read() as session:
        scope = runs_in_scope(session, storage, caller, index_ids, run_ids, limits)
    return ScopedTables(scope, analyst_views(storage, scope.runs))


def run_query(
    sandbox: Sandbox, storage: Storage, tables: ScopedTables, query: str, row_limit: int, account: str
) -> dict[str, Any]:
    """Run one SELECT in a sandbox; see `Sandbox.run` for the result.

    Raises:
        ApiError: 422 if the query is rejected, 429 if too many queries are running.
        StateExpired: a newer state of a run in progress replaced the one that the query read.
    """
    try:
        return sandbox.run(query, tables.sql_by_name, tables.views.files, row_limit=row_limit, account=account)
    except SqlError as error:
        raise query_error(error, storage, tables) from error


def query_error(error: SqlError, storage: Storage, tables: ScopedTables) -> ApiError:
    """Convert an error of a query to an API error, without the paths of files, which must not reach the caller.

    Raises:
        StateExpired: the query failed because a newer state of a run in progress replaced the one that it read.
    """
    for run in tables.scope.runs:
        if run.manifest.is_interim:
            with reading(run.manifest):
                check_parts(storage, run.manifest)
    if error.code == "sql_busy":
        return ApiError(429, error.code, error.message, None, 1)
    message = error.message
    for path in tables.views.files:
        message = message.replace(path, Path(path).name)
    return ApiError(422, error.code, message.replace(storage.root, "…"), {"dialect": "duckdb"})
