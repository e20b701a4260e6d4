"""When a request is sent again, and after how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from promptreel.sdk.errors import ApiStatusError, ConnectionFailed, PromptReelError, RequestTimedOut
from promptreel.sdk.request import Request

RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and how patiently, a request is sent again.

    GET, PUT, DELETE and requests with an Idempotency-Key are repeated on 429, 500, 502, 503, 504, broken connections and
    time-outs; others never.

    Attributes:
        max_retries: times that a request is sent again; 0 never.
        first_delay_s, max_delay_s: the longest delay before the first retry, doubled for each further one, and its bound.
            Each delay is drawn between 0 and that ("full jitter").
        max_retry_after_s: a `Retry-After` that asks for more is not waited for.
    """

    max_retries: int = 3
    first_delay_s: float = 0.5
    max_delay_s: float = 8.0
    max_retry_after_s: float = 60.0

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise ValueError(f"max_retries is {self.max_retries}; give 0 or more")
        if not 0 <= self.first_delay_s <= self.max_delay_s:
            raise ValueError(f"first_delay_s is {self.first_delay_s}; give 0 to max_delay_s ({self.max_delay_s})")

    def delay_s(
        self, request: Request, failure: PromptReelError, retries: int, uniform: Callable[[float, float], float]
    ) -> float | None:
        """Seconds after which a failed request is sent again; None where it is not.

        Args:
            retries: how often it was sent again already.
            uniform: draws a number between two, as `random.uniform` does.
        """
        if retries >= self.max_retries or not request.is_repeatable or not _may_pass(failure):
            return None
        delay_s = uniform(0.0, min(self.max_delay_s, self.first_delay_s * 2.0**retries))
        asked_s = getattr(failure, "retry_after_s", None)
        if asked_s is None:
            return delay_s
        return None if asked_s > self.max_retry_after_s else asked_s + delay_s


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks for, as a number or a date; None without a readable one."""
    if header is None:
        return None
    text = header.strip()
    if text.isdecimal() and text.isascii():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def _may_pass(failure: PromptReelError) -> bool:
    if isinstance(failure, ApiStatusError):
        return failure.status in RETRIED_STATUS
    return isinstance(failure, ConnectionFailed | RequestTimedOut)
