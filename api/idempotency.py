"""The same request twice has one effect: keyed answers are kept in the transaction that they belong to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Header
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.auth import Principal
from api.clock import now
from api.database import Database, IdempotentAnswer
from api.errors import ApiError
from api.json_response import JsonResponse
from schemas.ids import digest

LIFETIME = timedelta(hours=24)

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]

Action = Callable[[Session], tuple[int, dict[str, Any]]]


def answer_once(
    database: Database, caller: Principal, method: str, path: str, key: str | None, content: Any, action: Action
) -> JsonResponse:
    """Does something once for a key, and gives its first answer to everyone who asks with that key again.

    Args:
        content: the decoded request (JSON values); another content under the same key is refused.
        action: does it inside the given transaction and returns status and body. Raising rolls everything back, and
            leaves the key free: only successes are kept.

    Raises:
        ApiError: 409 where the key came with another content; whatever `action` raises.
    """
    if key is None:
        with database.write() as session:
            status, body = action(session)
        return JsonResponse(body, status_code=status)
    hashed = digest(content)
    place = (caller.account_id, method, path, key)
    if (kept := _kept(database, place, hashed)) is not None:
        return kept
    try:
        with database.write() as session:
            _forget_old(session)
            record = IdempotentAnswer(
                account_id=place[0],
                method=method,
                path=path,
                key=key,
                content_hash=hashed,
                status=0,
                body={},
                created_at=now(),
            )
            session.add(record)
            session.flush()  # another request with this key waits here, or fails
            record.status, record.body = action(session)
        return JsonResponse(record.body, status_code=record.status)
    except IntegrityError:
        kept = _kept(database, place, hashed)
        if kept is None:
            raise
        return kept


def kept_answer(
    database: Database, caller: Principal, method: str, path: str, key: str | None, content: Any
) -> JsonResponse | None:
    """The first answer to a keyed request; None where there is none yet. For what is costly to prepare for an action.

    Raises:
        ApiError: 409 where the key came with another content.
    """
    return None if key is None else _kept(database, (caller.account_id, method, path, key), digest(content))


def _kept(database: Database, place: tuple[str, str, str, str], hashed: str) -> JsonResponse | None:
    with database.read() as session:
        record = session.get(IdempotentAnswer, place)
        if record is None or now() - _aware(record.created_at) > LIFETIME:
            return None
        if record.content_hash != hashed:
            message = "This Idempotency-Key came with another request before; use a new one."
            raise ApiError(409, "idempotency_request_mismatch", message)
        return JsonResponse(record.body, status_code=record.status)


def _forget_old(session: Session) -> None:
    oldest = session.scalar(select(IdempotentAnswer.created_at).order_by(IdempotentAnswer.created_at).limit(1))
    if oldest is not None and now() - _aware(oldest) > LIFETIME:
        session.execute(delete(IdempotentAnswer).where(IdempotentAnswer.created_at < now() - LIFETIME))


def _aware(moment: Any) -> Any:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=now().tzinfo)
