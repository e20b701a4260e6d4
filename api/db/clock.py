"""Instants as the database keeps them and as the wire shows them: UTC, ISO-8601."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """This instant, in UTC."""
    return datetime.now(UTC)


def wire_time(moment: datetime | None) -> str | None:
    """`2026-04-20T10:00:00.123Z`; None stays None. What a database gives back without a zone is UTC."""
    if moment is None:
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{aware.microsecond // 1000:03d}Z"


def required_time(moment: datetime) -> str:
    """The same for an instant that is always there."""
    text = wire_time(moment)
    assert text is not None
    return text
