"""SQL over run tables: a single SELECT in DuckDB's dialect."""

from __future__ import annotations

from collections.abc import Sequence

from promptreel.schemas.wire.sql import SqlCatalogBody, SqlDraft, SqlRowsBody
from promptreel.sdk.request import SLOW_REQUEST_TIMEOUT_S, Call, Request, omit_none, path_of


def catalog(
    index_id: str, *, run_ids: Sequence[str] | None = None, index_ids: Sequence[str] | None = None
) -> Call[SqlCatalogBody]:
    """List available tables and query limits. Pass "playground" as `index_id` for media outside any index."""
    body = omit_none(run_ids=_list_or_none(run_ids), index_ids=_list_or_none(index_ids))
    return Call(Request("POST", path_of("search", "sql", index_id, "catalog"), json=body), SqlCatalogBody)


def execute(
    index_id: str,
    query: str,
    *,
    run_ids: Sequence[str] | None = None,
    index_ids: Sequence[str] | None = None,
    result_limit: int | None = None,
) -> Call[SqlRowsBody]:
    """Run a query and return its rows, up to `result_limit` (at most 2000)."""
    body = omit_none(
        query=query, run_ids=_list_or_none(run_ids), index_ids=_list_or_none(index_ids), result_limit=result_limit
    )
    return Call(Request("POST", path_of("search", "sql", index_id), json=body), SqlRowsBody)


def generate(
    index_id: str,
    instruction: str,
    *,
    existing_query: str | None = None,
    run_ids: Sequence[str] | None = None,
    index_ids: Sequence[str] | None = None,
) -> Call[SqlDraft]:
    """Generate a query from an instruction, or edit `existing_query`. The query is not executed."""
    body = omit_none(
        instruction=instruction,
        existing_query=existing_query,
        run_ids=_list_or_none(run_ids),
        index_ids=_list_or_none(index_ids),
    )
    path = path_of("search", "sql", index_id, "generate")
    return Call(Request("POST", path, json=body, min_timeout_s=SLOW_REQUEST_TIMEOUT_S), SqlDraft)


def _list_or_none(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)
