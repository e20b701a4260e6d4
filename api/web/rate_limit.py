"""Rate limits per account and category, by minute and hour. Counted per process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from promptreel.api.config import RateLimitSettings
from promptreel.api.web.errors import ApiError

_MINUTE, _HOUR = 60, 3600


@dataclass(slots=True)
class _Window:
    number: int = -1
    used: int = 0

    def used_in(self, number: int) -> int:
        return self.used if self.number == number else 0

    def take(self, number: int) -> None:
        self.used = self.used_in(number) + 1
        self.number = number


class RateLimiter:
    """Counts requests in fixed windows. Thread-safe."""

    def __init__(self, limits: RateLimitSettings, clock: Callable[[], float] = time.time) -> None:
        self._limits = limits
        self._clock = clock
        self._windows: dict[tuple[str, str], tuple[_Window, _Window]] = {}
        self._lock = threading.Lock()

    def take(self, account_id: str, category: str) -> None:
        """Count one request.

        Raises:
            ApiError: 429 if a limit is reached, with the seconds until the window ends.
        """
        seconds = self._clock()
        limit = getattr(self._limits, category)
        with self._lock:
            minute, hour = self._windows.setdefault((account_id, category), (_Window(), _Window()))
            minute_number, hour_number = int(seconds // _MINUTE), int(seconds // _HOUR)
            for window, number, length, maximum in (
                (minute, minute_number, _MINUTE, limit),
                (hour, hour_number, _HOUR, limit * RateLimitSettings.HOUR_FACTOR),
            ):
                if window.used_in(number) >= maximum:
                    wait = max(1, int((number + 1) * length - seconds) + 1)
                    message = f"The limit of {maximum} {category} requests in {length} seconds is reached."
                    raise ApiError(429, "rate_limit_exceeded", message, {"category": category}, wait)
            minute.take(minute_number)
            hour.take(hour_number)

    def status(self, account_id: str) -> dict[str, dict[str, Any]]:
        """Return usage and limits by category."""
        seconds = self._clock()
        minute_number, hour_number = int(seconds // _MINUTE), int(seconds // _HOUR)
        usage = {}
        with self._lock:
            for category in ("search", "read", "write", "upload"):
                limit = getattr(self._limits, category)
                minute, hour = self._windows.get((account_id, category), (_Window(), _Window()))
                minute_used, hour_used = minute.used_in(minute_number), hour.used_in(hour_number)
                hour_limit = limit * RateLimitSettings.HOUR_FACTOR
                usage[category] = {
                    "minute_used": minute_used,
                    "minute_limit": limit,
                    "minute_remaining": max(0, limit - minute_used),
                    "hour_used": hour_used,
                    "hour_limit": hour_limit,
                    "hour_remaining": max(0, hour_limit - hour_used),
                    "reset_at": (minute_number + 1) * _MINUTE,
                }
        return usage
