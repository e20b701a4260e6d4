"""Times of day and durations as pages show them."""

from __future__ import annotations

from datetime import UTC, datetime


def shown_moment(timestamp: str) -> str:
    """Return an ISO-8601 timestamp as date and time to the second; other text as it is."""
    try:
        return datetime.fromisoformat(timestamp).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return timestamp


def shown_duration(start: str, end: str) -> str | None:
    """Return the time between two ISO-8601 timestamps; None if it is unknown."""
    try:
        seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (ValueError, TypeError):
        return None
    if seconds < 0:
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
