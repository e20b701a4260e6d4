"""SQL over the tables of runs: DuckDB's dialect, one SELECT."""

from __future__ import annotations

from collections.abc import Sequence

from promptreel.schemas.wire.sql import SqlCatalogBody, SqlDraft, SqlRowsBody
from promptreel.sdk.request import SLOW_ANSWER_S, Call, Request, given, path_of


def catalog(
    index_id: str, *, run_ids: Sequence[str] | None = None, index_ids: Sequence[str] | None = None
) -> Call[SqlCatalogBody]:
    """Gives the tables that a query may name, and its limits; `index_id` is "playground" for media in no index."""
    body = given(run_ids=_listed(run_ids), index_ids=_listed(index_ids))
    return Call(Request("POST", path_of("search", "sql", index_id, "catalog"), json=body), SqlCatalogBody)


def execute(
    index_id: str,
    query: str,
    *,
    run_ids: Sequence[str] | None = None,
    index_ids: Sequence[str] | None = None,
    result_limit: int | None = None,
) -> Call[SqlRowsBody]:
    """Gives the rows of a query, up to `result_limit` (at most 2000)."""
    body = given(query=query, run_ids=_listed(run_ids), index_ids=_listed(index_ids), result_limit=result_limit)
    return Call(Request("POST", path_of("search", "sql", index_id), json=body), SqlRowsBody)


def generate(
    index_id: str,
    instruction: str,
    *,
    existing_query: str | None = None,
    run_ids: Sequence[str] | None = None,
    index_ids: Sequence[str] | None = None,
) -> Call[SqlDraft]:
    """Writes a query from an instruction, or changes an existing one; it is not executed."""
    body = given(
        instruction=instruction,
        existing_query=existing_query,
        run_ids=_listed(run_ids),
        index_ids=_listed(index_ids),
    )
    path = path_of("search", "sql", index_id, "generate")
    return Call(Request("POST", path, json=body, patience_s=SLOW_ANSWER_S), SqlDraft)


def _listed(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)
