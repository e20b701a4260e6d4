"""Events: what happened to runs and media, in order, for those who follow along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from promptreel.api.db.clock import now, required_time
from promptreel.api.db.models import EventRecord

_LOCK_NUMBER = 7_230_118  # any number that is ours alone


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
    """Records an event in the transaction of what it tells of.

    Events are numbered in the order in which they become visible, so that who reads behind a number misses none: on
    PostgreSQL the transactions that record one therefore wait for each other; SQLite has one writer anyway.
    """
    wait_for_recorders(session)
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


def wait_for_recorders(session: Session) -> None:
    """Waits until every transaction that has recorded an event has ended, and lets none begin to before this one has."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})


def event_body(event: EventRecord) -> dict[str, Any]:
    """An event as the wire shows it; its id is its number, by which a stream is resumed."""
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
