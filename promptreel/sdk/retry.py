"""Retry policy: which failed requests are retried, and after what delay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from promptreel.sdk.errors import ApiStatusError, ConnectionFailed, PromptReelError, RequestTimedOut
from promptreel.sdk.request import Request

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which failed requests are retried, how often, and after what delay.

    GET, PUT, DELETE and requests with an Idempotency-Key are retried on 429, 500, 502, 503, 504, broken connections and
    timeouts. Other requests are never retried.

    Attributes:
        max_retries: maximum number of retries per request.
        first_delay_s: maximum delay in seconds before the first retry; doubles with every retry. The actual delay is
            drawn uniformly between 0 and this maximum ("full jitter").
        max_delay_s: upper limit of the doubled delay in seconds.
        max_retry_after_s: a request with a longer `Retry-After` is not retried.
    """

    max_retries: int = 3
    first_delay_s: float = 0.5
    max_delay_s: float = 8.0
    max_retry_after_s: float = 60.0

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise ValueError(f"max_retries is {self.max_retries}; it must be 0 or more")
        if not 0 <= self.first_delay_s <= self.max_delay_s:
            raise ValueError(
                f"first_delay_s is {self.first_delay_s}; it must be between 0 and max_delay_s ({self.max_delay_s})"
            )

    def delay_s(
        self, request: Request, failure: PromptReelError, retries: int, uniform: Callable[[float, float], float]
    ) -> float | None:
        """Return the delay in seconds before the next retry; None if the request is not retried.

        Args:
            retries: retries so far.
            uniform: draws a number between its arguments, like `random.uniform`.
        """
        if retries >= self.max_retries or not request.is_repeatable or not _is_transient(failure):
            return None
        delay_s = uniform(0.0, min(self.max_delay_s, self.first_delay_s * 2.0**retries))
        requested_s = getattr(failure, "retry_after_s", None)
        if requested_s is None:
            return delay_s
        return None if requested_s > self.max_retry_after_s else requested_s + delay_s


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Parse a `Retry-After` header, a number or a date, to seconds; None if it is missing or invalid."""
    if header is None:
        return None
    text = header.strip()
    if text.isdecimal() and text.isascii():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def _is_transient(failure: PromptReelError) -> bool:
    if isinstance(failure, ApiStatusError):
        return failure.status in RETRIED_STATUSES
    return isinstance(failure, ConnectionFailed | RequestTimedOut)
