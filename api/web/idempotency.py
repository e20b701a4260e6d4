"""Idempotency keys: a repeated request has one effect. The response is stored in the same transaction as the change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
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
_IS_ROW = [getattr(IdempotentAnswer, name) == bindparam(name) for name in _COLUMNS]
_ANSWER = select(IdempotentAnswer.__table__).where(*_IS_ROW)
_INSERT = insert(IdempotentAnswer)


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request that may carry an idempotency key.

    Attributes:
        key: the Idempotency-Key header; without one nothing is stored.
        content: the decoded request (JSON values). The same key with other content is rejected.
    """

    database: Database
    caller: Principal
    method: str
    path: str
    key: str | None
    content: Any


def answer_once(request: KeyedRequest, action: Action) -> JsonResponse:
    """Run an action once per key; later requests with that key get the first response.

    Args:
        action: runs in the given transaction and returns status and body. If it raises, the transaction is rolled back
            and the key stays free: only successes are stored.

    Raises:
        ApiError: 409 if the key was used with other content; whatever `action` raises.
    """
    with request.database.write() as session:
        if request.key is None:
            status, body = action(session)
            return JsonResponse(body, status_code=status)
        row_key = _row_key(request)
        _wait_for_same(session, row_key)
        content_hash = digest(request.content)
        connection = session.connection()
        record = connection.execute(_ANSWER, row_key).one_or_none()
        if record is not None:
            if (stored := _response_of(record, content_hash)) is not None:
                return stored
            connection.execute(delete(IdempotentAnswer).where(*_IS_ROW), row_key)
        status, body = action(session)
        values = {**row_key, "content_hash": content_hash, "status": status, "body": body, "created_at": now()}
        connection.execute(_INSERT, values)
        return JsonResponse(body, status_code=status)


def stored_response(request: KeyedRequest) -> JsonResponse | None:
    """The stored response to a keyed request, or None. Call it before work that is costly to prepare for an action.

    Raises:
        ApiError: 409 if the key was used with other content.
    """
    if request.key is None:
        return None
    with request.database.read() as session:
        record = session.connection().execute(_ANSWER, _row_key(request)).one_or_none()
        return None if record is None else _response_of(record, digest(request.content))


def _row_key(request: KeyedRequest) -> dict[str, str]:
    assert request.key is not None
    values = (request.caller.account_id, request.method, request.path, request.key)
    return dict(zip(_COLUMNS, values, strict=True))


def _response_of(record: Row[Any], content_hash: str) -> JsonResponse | None:
    """The stored response, or None if it has expired."""
    if now() - _aware(record.created_at) > LIFETIME:
        return None
    if record.content_hash != content_hash:
        message = "This Idempotency-Key was used with a different request; use a new key."
        raise ApiError(409, "idempotency_request_mismatch", message)
    return JsonResponse(record.body, status_code=record.status)


def _wait_for_same(session: Session, row_key: dict[str, str]) -> None:
    """Wait until no other transaction holds this key. SQLite has a single writer and needs no lock."""
    if session.get_bind().dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256("\0".join(row_key.values()).encode()).digest()[:8], signed=True)
        session.execute(select(func.pg_advisory_xact_lock(number)))


def purge_expired(session: Session) -> None:
    """Delete responses older than `LIFETIME`."""
    session.execute(delete(IdempotentAnswer).where(IdempotentAnswer.created_at < now() - LIFETIME))


def _aware(instant: Any) -> Any:
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=now().tzinfo)
