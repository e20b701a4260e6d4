"""The page that compares two runs field by field."""

from __future__ import annotations

from typing import Annotated, Final, cast

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import wire_time
from promptreel.api.db.models import RunItem, RunRecord
from promptreel.api.routes.thumbnails import thumbnail_links
from promptreel.api.runs.run_diff import DiffQuery, diff_page
from promptreel.api.runs.run_tables import run_tables
from promptreel.api.runs.store import owned_run
from promptreel.api.site.compare_view import CHANGE_NAMES, ComparedSegment, CompareQuery, compared_segments
from promptreel.api.web.auth import Principal, Reader
from promptreel.api.web.dependencies import DataFolder, Db
from promptreel.api.web.errors import ApiError, invalid
from promptreel.api.web.page import page
from promptreel.pages.moments import shown_moment
from promptreel.schemas.errors import InvalidInput
from promptreel.tables.diff import Change

router = APIRouter()

_CHANGES_PER_PAGE: Final = 100
_MAX_CHOICES: Final = 100

Id = Annotated[str, Query(max_length=255)]


@router.get("/compare")
def compare_page(
    request: Request,
    caller: Reader,
    database: Db,
    storage: DataFolder,
    base: Id = "",
    other: Id = "",
    field: Annotated[str, Query(max_length=1_000)] = "",
    change: Annotated[str, Query(max_length=20)] = "",
    cursor: Annotated[str, Query(max_length=4_096)] = "",
) -> Response:
    """Choose two runs over the same media, or show where they differ."""
    if change not in ("", *CHANGE_NAMES):
        raise invalid(f"change: {change!r} is none of {', '.join(CHANGE_NAMES)}", "change")
    query = CompareQuery(base.strip(), other.strip(), field, change, cursor)
    with database.read() as session:
        runs = [owned_run(session, caller, run_id) if run_id else None for run_id in (query.base, query.other)]
        choices = _choices(session, caller, query.base)
    before, after = runs
    found, problem = None, None
    segments: tuple[ComparedSegment, ...] = ()
    if before is not None and after is not None:
        wanted = DiffQuery(field=field or None, change=cast(Change, change) if change else None)
        try:
            found = diff_page(storage, (before, after), wanted, cursor or None, _CHANGES_PER_PAGE)
            tables = [run_tables(storage, run.run_id) for run in (before, after)]
            if tables[0] is not None and tables[1] is not None:
                segments = compared_segments(found, tables[0], tables[1], thumbnail_links(request, ""))
        except (ApiError, InvalidInput) as error:
            problem = error
    return page(
        request,
        "compare.html",
        status=200 if problem is None else problem.status if isinstance(problem, ApiError) else 422,
        query=query,
        choices=choices,
        titles=[None if run is None else _title(run) for run in runs],
        found=found,
        segments=segments,
        problem=None if problem is None else str(getattr(problem, "message", problem)),
        changes=CHANGE_NAMES,
    )


def _choices(session: Session, caller: Principal, base: str) -> list[tuple[str, str]]:
    """Return (id, title) of the newest runs that have tables; with a base, of those that share media with it."""
    mine = select(RunRecord).where(
        RunRecord.account_id == caller.account_id, RunRecord.manifest_number.is_not(None), RunRecord.run_id != base
    )
    if base:
        its_items = select(RunItem.video_id).where(RunItem.run_id == base)
        mine = mine.where(RunRecord.run_id.in_(select(RunItem.run_id).where(RunItem.video_id.in_(its_items))))
    newest = session.scalars(mine.order_by(RunRecord.created_at.desc()).limit(_MAX_CHOICES))
    return [(run.run_id, _title(run)) for run in newest]


def _title(run: RunRecord) -> str:
    name = run.name or (run.prompt_name if run.prompt_version is None else f"{run.prompt_name} v{run.prompt_version}")
    return f"{name}, {run.settings['model']['model']}, {shown_moment(wire_time(run.created_at) or '')}"
