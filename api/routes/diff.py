"""Route of the diff of two runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from promptreel.api.db.models import RunRecord
from promptreel.api.runs.run_tables import run_tables
from promptreel.api.runs.store import owned_run
from promptreel.api.web.auth import Reader
from promptreel.api.web.dependencies import DataFolder, Db
from promptreel.api.web.errors import conflict
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.pagination import (
    DEFAULT_LIMIT,
    Cursor,
    Limit,
    decode_cursor,
    encode_cursor,
    page_body,
)
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.wire.diff import RunDiffPage
from promptreel.tables.diff import DiffCursor, RunDiff
from promptreel.tables.reader import CommittedRun
from promptreel.tables.storage import Storage

router = APIRouter(prefix="/prompt-runs", tags=["prompt-runs"], route_class=ApiRoute)


@router.get("/{run_id}/diff", response_model=RunDiffPage)
def compare_runs(
    run_id: str,
    caller: Reader,
    database: Db,
    storage: DataFolder,
    other_run_id: Annotated[str, Query(description="The run to compare with; its values are `after`.")],
    include_same: Annotated[bool, Query(description="Also list unchanged fields.")] = False,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> JsonResponse:
    """List the fields that differ between two runs over the same media, in order of item and time.

    The first page includes a summary.
    """
    with database.read() as session:
        runs = [owned_run(session, caller, name) for name in (run_id, other_run_id)]
    scope = ("diff", run_id, other_run_id, include_same)
    position = decode_cursor(cursor, scope, (int, int, str, int, str, int))
    numbers = position[:2] if position is not None else (None, None)
    before, after = (_committed(storage, run, number) for run, number in zip(runs, numbers, strict=True))
    diff = RunDiff(storage, before, after)
    after_row = DiffCursor(*position[2:]) if position is not None else None
    found = list(diff.rows(include_same=include_same, after=after_row, limit=limit + 1))
    next_cursor = None
    if len(found) > limit:
        last = found[limit - 1][0]
        numbers = [before.manifest.number, after.manifest.number]
        next_cursor = encode_cursor(scope, [*numbers, last.video_id, last.start_us, last.segment_id, last.field_number])
    page = page_body([change.to_dict() for _, change in found[:limit]], limit, next_cursor)
    summary = diff.summary().to_dict() if position is None else None
    return JsonResponse({"run_id": run_id, "other_run_id": other_run_id, "summary": summary, **page})


def _committed(storage: Storage, run: RunRecord, number: int | None) -> CommittedRun:
    tables = run_tables(storage, run.run_id, number)
    if tables is None:
        message = f"Run {run.run_id} has no results yet; wait until it is finished."
        raise conflict("run_not_finished", message, run_id=run.run_id, status=run.status)
    return CommittedRun(run.run_id, prompt_from_dict(run.prompt), tables.manifest)
