"""Events of runs and media, in order, for the event stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from promptreel.api.db.clock import now, required_time
from promptreel.api.db.models import EventRecord

_LOCK_NUMBER = 7_230_118  # arbitrary, but unique within the database


def record_event(
    session: Session,
    account_id: str,
    event_type: str,
    *,
    run_id: str | None = None,
    video_id: str | None = None,
    segment_id: str | None = None,
    index_id: str | None = None,
    payload: Mapping[str, Any] | None = None,
) -> None:
    """Record an event in the transaction of the change that it reports.

    Events become visible in the order of their numbers, so that a client that reads after a number misses none. On
    PostgreSQL, transactions that record events therefore wait for each other; SQLite has a single writer.
    """
    lock_events(session)
    session.add(
        EventRecord(
            account_id=account_id,
            event_type=event_type,
            run_id=run_id,
            video_id=video_id,
            segment_id=segment_id,
            index_id=index_id,
            payload=dict(payload or {}),
            created_at=now(),
        )
    )


def lock_events(session: Session) -> None:
    """Lock the recording of events until this transaction ends; waits for transactions that hold the lock."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})


def event_body(event: EventRecord) -> dict[str, Any]:
    """Return the JSON body of an event. Its id is its number; a stream resumes after it."""
    return {
        "event_id": str(event.number),
        "event_type": event.event_type,
        "user_id": event.account_id,
        "run_id": event.run_id,
        "video_id": event.video_id,
        "segment_id": event.segment_id,
        "index_id": event.index_id,
        "created_at": required_time(event.created_at),
        "payload": event.payload,
    }
