"""SQL over run tables: a single SELECT in DuckDB's dialect."""

from __future__ import annotations

from collections.abc import Sequence

from promptreel.schemas.wire.sql import SqlCatalogBody, SqlDraft, SqlRowsBody
from promptreel.sdk.calls import sql as calls
from promptreel.sdk.resources.base import AsyncResource, Resource


class Sql(Resource):
    """SQL over run tables: a single SELECT in DuckDB's dialect."""

    def catalog(
        self, index_id: str, *, run_ids: Sequence[str] | None = None, index_ids: Sequence[str] | None = None
    ) -> SqlCatalogBody:
        """List available tables and query limits. Pass "playground" as `index_id` for media outside any index."""
        return self._send(calls.catalog(index_id, run_ids=run_ids, index_ids=index_ids))

    def execute(
        self,
        index_id: str,
        query: str,
        *,
        run_ids: Sequence[str] | None = None,
        index_ids: Sequence[str] | None = None,
        result_limit: int | None = None,
    ) -> SqlRowsBody:
        """Run a query and return its rows, up to `result_limit` (at most 2000)."""
        return self._send(
            calls.execute(index_id, query, run_ids=run_ids, index_ids=index_ids, result_limit=result_limit)
        )

    def generate(
        self,
        index_id: str,
        instruction: str,
        *,
        existing_query: str | None = None,
        run_ids: Sequence[str] | None = None,
        index_ids: Sequence[str] | None = None,
    ) -> SqlDraft:
        """Generate a query from an instruction, or edit `existing_query`. The query is not executed."""
        return self._send(
            calls.generate(index_id, instruction, existing_query=existing_query, run_ids=run_ids, index_ids=index_ids)
        )


class AsyncSql(AsyncResource):
    """SQL over run tables: a single SELECT in DuckDB's dialect."""

    async def catalog(
        self, index_id: str, *, run_ids: Sequence[str] | None = None, index_ids: Sequence[str] | None = None
    ) -> SqlCatalogBody:
        """List available tables and query limits. Pass "playground" as `index_id` for media outside any index."""
        return await self._send(calls.catalog(index_id, run_ids=run_ids, index_ids=index_ids))

    async def execute(
        self,
        index_id: str,
        query: str,
        *,
        run_ids: Sequence[str] | None = None,
        index_ids: Sequence[str] | None = None,
        result_limit: int | None = None,
    ) -> SqlRowsBody:
        """Run a query and return its rows, up to `result_limit` (at most 2000)."""
        return await self._send(
            calls.execute(index_id, query, run_ids=run_ids, index_ids=index_ids, result_limit=result_limit)
        )

    async def generate(
        self,
        index_id: str,
        instruction: str,
        *,
        existing_query: str | None = None,
        run_ids: Sequence[str] | None = None,
        index_ids: Sequence[str] | None = None,
    ) -> SqlDraft:
        """Generate a query from an instruction, or edit `existing_query`. The query is not executed."""
        return await self._send(
            calls.generate(index_id, instruction, existing_query=existing_query, run_ids=run_ids, index_ids=index_ids)
        )
