"""Route of the diff of two runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from promptreel.api.runs.run_diff import DiffQuery, diff_page
from promptreel.api.runs.store import owned_run
from promptreel.api.web.auth import Reader
from promptreel.api.web.dependencies import DataFolder, Db
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.pagination import DEFAULT_LIMIT, Cursor, Limit, page_body
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.wire.diff import RunDiffPage
from promptreel.tables.diff import Change

router = APIRouter(prefix="/prompt-runs", tags=["prompt-runs"], route_class=ApiRoute)


@router.get("/{run_id}/diff", response_model=RunDiffPage)
def compare_runs(
    run_id: str,
    caller: Reader,
    database: Db,
    storage: DataFolder,
    other_run_id: Annotated[str, Query(description="The run to compare with; its values are `after`.")],
    include_same: Annotated[bool, Query(description="Also list unchanged fields.")] = False,
    field: Annotated[str | None, Query(max_length=1000, description="List only this field.")] = None,
    change: Annotated[Change | None, Query(description="List only this kind of change.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> JsonResponse:
    """List the fields that differ between two runs over the same media, in order of item and time.

    The first page includes a summary.
    """
    with database.read() as session:
        runs = owned_run(session, caller, run_id), owned_run(session, caller, other_run_id)
    found = diff_page(storage, runs, DiffQuery(include_same, field, change), cursor, limit)
    page = page_body([row.to_dict() for row in found.changes], limit, found.next_cursor)
    summary = found.summary.to_dict() if found.summary is not None else None
    return JsonResponse({"run_id": run_id, "other_run_id": other_run_id, "summary": summary, **page})
