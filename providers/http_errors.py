"""What an HTTP error of a model service means, and how long the service asks callers to wait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

_CLIENT_CLOSED_REQUEST: Final = 499  # nginx and Google: the caller, or a proxy for it, gave up


def failure_of_status(status: int | None) -> tuple[str, bool]:
    """Return (failure code, whether a retry may succeed) of an HTTP status; None if the error has no status.

    An invalid key or an unknown model halts the run, and its user can fix both before a retry.
    """
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limited", True
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return "model_auth", True
    if status == HTTPStatus.NOT_FOUND:
        return "model_not_found", True
    if status in (HTTPStatus.REQUEST_TIMEOUT, _CLIENT_CLOSED_REQUEST, HTTPStatus.GATEWAY_TIMEOUT):
        return "model_timeout", True
    if status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "model_unavailable", True
    return "model_bad_request", False


def retry_after_of(headers: Mapping[str, str] | None) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110); None without a valid one.

    A date in the header is compared with the response's own Date, because the clock of this machine may be wrong.
    """
    # The headers are case-insensitive (httpx) or a plain dict (another library), so compare in lower case.
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    value = lower.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    until, now = _parse_http_date(value), _parse_http_date(lower.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds()) if until is not None else None


def _parse_http_date(value: str) -> datetime | None:
    """Parse an HTTP date; None for any other text."""
    try:
        time = parsedate_to_datetime(value)
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
