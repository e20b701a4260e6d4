"""The same request twice has one effect: keyed answers are kept in the transaction that they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Header
from sqlalchemy import Row, bindparam, delete, func, insert, select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import now
from promptreel.api.db.engine import Database
from promptreel.api.db.models import IdempotentAnswer
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import ApiError
from promptreel.api.web.json_response import JsonResponse
from promptreel.schemas.ids import digest

LIFETIME = timedelta(hours=24)

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]

Action = Callable[[Session], tuple[int, dict[str, Any]]]


_COLUMNS = ("account_id", "method", "path", "key")
_PLACE = [getattr(IdempotentAnswer, name) == bindparam(name) for name in _COLUMNS]
_ANSWER = select(IdempotentAnswer.__table__).where(*_PLACE)
_INSERT = insert(IdempotentAnswer)


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
    with database.write() as session:
        if key is None:
            status, body = action(session)
            return JsonResponse(body, status_code=status)
        place = (caller.account_id, method, path, key)
        _wait_for_same(session, place)
        hashed = digest(content)
        connection, named = session.connection(), _named(place)
        record = connection.execute(_ANSWER, named).one_or_none()
        if record is not None:
            if (kept := _answer_of(record, hashed)) is not None:
                return kept
            connection.execute(delete(IdempotentAnswer).where(*_PLACE), named)
        status, body = action(session)
        values = {**named, "content_hash": hashed, "status": status, "body": body, "created_at": now()}
        connection.execute(_INSERT, values)
        return JsonResponse(body, status_code=status)


def stored_response(
    database: Database, caller: Principal, method: str, path: str, key: str | None, content: Any
) -> JsonResponse | None:
    """The first answer to a keyed request; None where there is none yet. For what is costly to prepare for an action.

    Raises:
        ApiError: 409 where the key came with another content.
    """
    if key is None:
        return None
    with database.read() as session:
        place = _named((caller.account_id, method, path, key))
        record = session.connection().execute(_ANSWER, place).one_or_none()
        return None if record is None else _answer_of(record, digest(content))


def _named(place: tuple[str, str, str, str]) -> dict[str, str]:
    return dict(zip(_COLUMNS, place, strict=True))


def _answer_of(record: Row[Any], hashed: str) -> JsonResponse | None:
    """The answer in a record; None where it is too old to be given."""
    if now() - _aware(record.created_at) > LIFETIME:
        return None
    if record.content_hash != hashed:
        message = "This Idempotency-Key came with another request before; use a new one."
        raise ApiError(409, "idempotency_request_mismatch", message)
    return JsonResponse(record.body, status_code=record.status)


def _wait_for_same(session: Session, place: tuple[str, str, str, str]) -> None:
    """Waits until no other transaction works on this key. SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256("\0".join(place).encode()).digest()[:8], signed=True)
        session.execute(select(func.pg_advisory_xact_lock(number)))


def purge_expired(session: Session) -> None:
    """Removes the answers that are older than `LIFETIME`."""
    session.execute(delete(IdempotentAnswer).where(IdempotentAnswer.created_at < now() - LIFETIME))


def _aware(moment: Any) -> Any:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=now().tzinfo)
