"""Timestamps of the database and the API: UTC, ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def wire_time(instant: datetime | None) -> str | None:
    """Format a time as `2026-04-20T10:00:00.123Z`; None stays None. A time without a zone, as from SQLite, is UTC."""
    if instant is None:
        return None
    aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{aware.microsecond // 1000:03d}Z"


def required_time(instant: datetime) -> str:
    """Format a time that is never None; see `wire_time`."""
    text = wire_time(instant)
    assert text is not None
    return text


def wire_text(text: str | None) -> str | None:
    """Format a time of a table, ISO 8601 text with any precision and zone, like `wire_time`."""
    return None if text is None else wire_time(datetime.fromisoformat(text))
