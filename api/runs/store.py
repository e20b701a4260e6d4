"""Prompt runs in the database: stored, and found again."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, and_, bindparam, insert, or_, select
from sqlalchemy.orm import Session

from promptreel.api.config import ApiConfig
from promptreel.api.db.clock import now
from promptreel.api.db.engine import Database
from promptreel.api.db.models import RunItem, RunRecord
from promptreel.api.runs.body import run_body
from promptreel.api.runs.plan import check_limits, first_summary, plan_run
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import not_found
from promptreel.api.web.pagination import decode_cursor, encode_cursor, page_body
from promptreel.schemas.ids import new_run_id
from promptreel.schemas.wire.prompt_runs import ExecuteRun

# What is asked for most, made once: to make a statement, and to make objects of its rows, costs several times its execution.
_RUN_BY_ID: Final = select(*(column for column in RunRecord.__table__.columns if column.name != "prompt")).where(
    RunRecord.run_id == bindparam("run_id")
)


_INSERT_RUN: Final = insert(RunRecord.__table__)  # type: ignore[arg-type]


_INSERT_ITEMS: Final = insert(RunItem.__table__)  # type: ignore[arg-type]


def start_run(session: Session, caller: Principal, body: ExecuteRun, config: ApiConfig) -> RunRecord:
    """Stores a run for the supervisor to execute. What is returned belongs to no session.

    Raises:
        ApiError: see `plan_run`.
    """
    prompt, settings, videos = plan_run(session, caller, body, config)
    check_limits(prompt, settings, videos, config)
    values = {
        "run_id": new_run_id(),
        "account_id": caller.account_id,
        "key_id": caller.key_id,
        "prompt_id": body.prompt_id,
        "prompt_name": prompt.name,
        "prompt": prompt.to_dict(),
        "settings": settings.to_dict(),
        "target": body.target.model_dump(mode="json", exclude_none=True),
        "index_id": getattr(body.target, "index_id", None),
        "status": "pending",
        "summary": first_summary(prompt, settings, videos),
        "created_at": now(),
    }
    items = [
        {"run_id": values["run_id"], "video_id": video.video_id, "position": at} for at, video in enumerate(videos)
    ]
    connection = session.connection()
    connection.execute(_INSERT_RUN, values)
    connection.execute(_INSERT_ITEMS, items)
    return RunRecord(**values)


def owned_run(session: Session, caller: Principal, run_id: str, *, to_write: bool = False) -> RunRecord:
    """The caller's run of that id.

    Args:
        to_write: lock the row until the transaction ends.

    Raises:
        ApiError: 404, also where it is another account's.
    """
    run = session.get(RunRecord, run_id, with_for_update=to_write)
    if run is None or run.account_id != caller.account_id:
        raise not_found("run", run_id)
    return run


async def look_up_run(database: Database, caller: Principal, run_id: str) -> Row[Any]:
    """The caller's run of that id without its prompt, for callers that poll its status.

    Raises:
        ApiError: 404, also where it is another account's.
    """
    found = await database.look_up(_RUN_BY_ID, {"run_id": run_id})
    if found is None or found.account_id != caller.account_id:
        raise not_found("run", run_id)
    return found


def runs_of(caller: Principal) -> Select[RunRecord]:
    """The caller's runs, newest first."""
    mine = select(RunRecord).where(RunRecord.account_id == caller.account_id)
    return mine.order_by(RunRecord.created_at.desc(), RunRecord.run_id.desc())


def runs_page(session: Session, caller: Principal, index_id: str, limit: int, cursor: str | None) -> dict[str, Any]:
    """One page of the runs over an index."""
    scope = ("runs", caller.account_id, index_id)
    place = decode_cursor(cursor, scope, (datetime, str))
    rows = runs_of(caller).where(RunRecord.index_id == index_id)
    if place is not None:
        moment, run_id = place
        rows = rows.where(
            or_(RunRecord.created_at < moment, and_(RunRecord.created_at == moment, RunRecord.run_id < run_id))
        )
    found = session.scalars(rows.limit(limit + 1)).all()
    shown = found[:limit]
    more = len(found) > limit
    next_cursor = encode_cursor(scope, [shown[-1].created_at.isoformat(), shown[-1].run_id]) if more else None
    return page_body([run_body(run) for run in shown], limit, next_cursor)
