"""SQL over the tables of runs: DuckDB's dialect, one SELECT."""

from __future__ import annotations

from collections.abc import Sequence

from promptreel.schemas.wire.sql import SqlCatalogBody, SqlDraft, SqlRowsBody
from promptreel.sdk.calls import sql as calls
from promptreel.sdk.resources.base import AsyncResource, Resource


class Sql(Resource):
    """SQL over the tables of runs: DuckDB's dialect, one SELECT."""

    def catalog(
        self, index_id: str, *, run_ids: Sequence[str] | None = None, index_ids: Sequence[str] | None = None
    ) -> SqlCatalogBody:
        """Gives the tables that a query may name, and its limits; `index_id` is "playground" for media in no index."""
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
        """Gives the rows of a query, up to `result_limit` (at most 2000)."""
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
        """Writes a query from an instruction, or changes an existing one; it is not executed."""
        return self._send(
            calls.generate(index_id, instruction, existing_query=existing_query, run_ids=run_ids, index_ids=index_ids)
        )


class AsyncSql(AsyncResource):
    """SQL over the tables of runs: DuckDB's dialect, one SELECT."""

    async def catalog(
        self, index_id: str, *, run_ids: Sequence[str] | None = None, index_ids: Sequence[str] | None = None
    ) -> SqlCatalogBody:
        """Gives the tables that a query may name, and its limits; `index_id` is "playground" for media in no index."""
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
        """Gives the rows of a query, up to `result_limit` (at most 2000)."""
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
        """Writes a query from an instruction, or changes an existing one; it is not executed."""
        return await self._send(
            calls.generate(index_id, instruction, existing_query=existing_query, run_ids=run_ids, index_ids=index_ids)
        )
