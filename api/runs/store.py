"""Prompt runs in the database: store, look up, list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, and_, bindparam, insert, or_, select
from sqlalchemy.orm import Session

from promptreel.api.config import ApiConfig
from promptreel.api.db.clock import now
from promptreel.api.db.engine import Database
from promptreel.api.db.models import RunItem, RunRecord
from promptreel.api.runs.body import run_body
from promptreel.api.runs.plan import check_limits, first_summary, plan_run, run_settings
from promptreel.api.runs.prompt_versions import register_version
from promptreel.api.runs.service_models import look_up_models
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import none_found, not_found
from promptreel.api.web.idempotency import KeyedRequest, answer_once
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.pagination import decode_cursor, encode_cursor, page_body
from promptreel.schemas.ids import new_run_id
from promptreel.schemas.run_labels import NO_LABELS, RunLabels
from promptreel.schemas.wire.prompt_runs import ExecuteRun

# The most frequent statements. They are built once and return plain rows: building a statement, and objects from its
# rows, takes several times as long as executing it.
_RUN_BY_ID: Final = select(*(column for column in RunRecord.__table__.columns if column.name != "prompt")).where(
    RunRecord.run_id == bindparam("run_id")
)
_INSERT_RUN: Final = insert(RunRecord.__table__)  # type: ignore[arg-type]
_INSERT_ITEMS: Final = insert(RunItem.__table__)  # type: ignore[arg-type]


async def start_run_once(request: KeyedRequest, body: ExecuteRun, config: ApiConfig) -> JsonResponse:
    """Start a run, once per idempotency key. The body of the response is the run.

    Raises:
        ApiError: see `plan_run` and `answer_once`.
    """

    def start(session: Session) -> tuple[int, dict[str, Any]]:
        return 202, run_body(start_run(session, request.caller, body, config))

    await look_up_models(lambda: run_settings(body, config))
    return await request.database.run_write(answer_once, request, start)


def start_run(session: Session, caller: Principal, body: ExecuteRun, config: ApiConfig) -> RunRecord:
    """Store a run. The supervisor executes it. The returned record is not attached to a session.

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
        "summary": first_summary(prompt, settings, videos, body.warnings()),
        "created_at": now(),
        "name": body.name,
        "tags": body.tags,
        "prompt_version": register_version(session, caller.account_id, prompt),
    }
    items = [
        {"run_id": values["run_id"], "video_id": video.video_id, "position": position}
        for position, video in enumerate(videos)
    ]
    connection = session.connection()
    connection.execute(_INSERT_RUN, values)
    connection.execute(_INSERT_ITEMS, items)
    return RunRecord(**values)


def owned_run(session: Session, caller: Principal, run_id: str, *, to_write: bool = False) -> RunRecord:
    """Return a run of the caller.

    Args:
        to_write: lock the row until the transaction ends.

    Raises:
        ApiError: 404 if it does not exist or belongs to another account.
    """
    run = session.get(RunRecord, run_id, with_for_update=to_write)
    if run is None or run.account_id != caller.account_id:
        raise not_found("run", run_id)
    return run


def owned_runs(session: Session, caller: Principal, run_ids: Sequence[str]) -> list[RunRecord]:
    """Return runs of the caller, each once, in the order of the ids.

    Raises:
        ApiError: 404 if some do not exist or belong to another account; it names them all.
    """
    wanted = list(dict.fromkeys(run_ids))
    found = {run.run_id: run for run_id in wanted if (run := session.get(RunRecord, run_id)) is not None}
    if unknown := [name for name in wanted if name not in found or found[name].account_id != caller.account_id]:
        raise none_found("run", unknown)
    return list(found.values())


async def look_up_run(database: Database, caller: Principal, run_id: str) -> Row[Any]:
    """Return a run of the caller without its prompt, for clients that poll its status.

    Raises:
        ApiError: 404 if it does not exist or belongs to another account.
    """
    found = await database.look_up(_RUN_BY_ID, {"run_id": run_id})
    if found is None or found.account_id != caller.account_id:
        raise not_found("run", run_id)
    return found


def runs_of(caller: Principal, labels: RunLabels = NO_LABELS) -> Select[RunRecord]:
    """Select the caller's runs with this name, if any, and these tags, newest first."""
    mine = select(RunRecord).where(RunRecord.account_id == caller.account_id)
    if labels.name is not None:
        mine = mine.where(RunRecord.name == labels.name)
    for key, value in labels.tags.items():
        mine = mine.where(RunRecord.tags[key].as_string() == value)
    return mine.order_by(RunRecord.created_at.desc(), RunRecord.run_id.desc())


def runs_page(
    session: Session, caller: Principal, index_id: str, limit: int, cursor: str | None, labels: RunLabels = NO_LABELS
) -> dict[str, Any]:
    """Return one page of the runs with these labels over an index, newest first."""
    scope = ("runs", caller.account_id, index_id, *([] if labels == NO_LABELS else [labels.name, dict(labels.tags)]))
    position = decode_cursor(cursor, scope, (datetime, str))
    rows = runs_of(caller, labels).where(RunRecord.index_id == index_id)
    if position is not None:
        created_at, run_id = position
        is_older = RunRecord.created_at < created_at
        rows = rows.where(or_(is_older, and_(RunRecord.created_at == created_at, RunRecord.run_id < run_id)))
    found = session.scalars(rows.limit(limit + 1)).all()
    shown = found[:limit]
    has_more = len(found) > limit
    next_cursor = encode_cursor(scope, [shown[-1].created_at.isoformat(), shown[-1].run_id]) if has_more else None
    return page_body([run_body(run) for run in shown], limit, next_cursor)
