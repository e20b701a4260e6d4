"""A token bucket whose rate finds the service's own limit: additive increase, multiplicative decrease.

AIMD is the control law of TCP's congestion avoidance (Chiu and Jain, 1989). No limit is assumed until the service
first says "too fast"; the rate then starts from what it has accepted of late.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

# After a refusal the rate falls to this share of what was accepted in the last window. Shallow, because a refused call
# costs nothing but itself, while an idle quota is lost time.
DECREASE: Final = 0.92
# The rate grows by this share of the last refused rate for each second without a refusal.
INCREASE_PER_S: Final = 0.02
WINDOW_S: Final = 1.0
# A second refusal within this time answers calls sent before the first was known: it does not lower the rate again.
REACTION_S: Final = 0.5
MIN_RATE: Final = 0.05  # one call in 20 s
CHECK_EVERY_S: Final = 0.5


class AdaptiveRateLimit:
    """Admits calls. Used from one event loop only.

    Args:
        max_rate: calls per second never to be exceeded; None has no limit of its own.
        clock: seconds, monotonic.
    """

    def __init__(self, max_rate: float | None = None, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or asyncio.get_running_loop().time
        self._max_rate = max_rate
        self._rate = max_rate
        self._refused_rate: float | None = None
        self._next_slot = float("-inf")
        self._resume_at = float("-inf")
        self._last_refusal = float("-inf")
        self._last_growth = self._clock()
        self._accepted: deque[float] = deque()
        self._lock = asyncio.Lock()

    @property
    def rate(self) -> float | None:
        """Calls per second admitted now; None while no limit is known."""
        return self._rate

    async def acquire(self, check: Callable[[], None] = lambda: None) -> None:
        """Waits until a call may be sent. Callers are admitted in the order in which they came.

        Args:
            check: called at least twice a second while waiting, and once more before admission; raises to give up.
        """
        async with self._lock:
            while (wait := self._wait()) > 0:
                check()
                await asyncio.sleep(min(wait, CHECK_EVERY_S))
            check()
            self._take()

    def _wait(self) -> float:
        self._grow()
        return max(self._next_slot, self._resume_at) - self._clock()

    def _take(self) -> None:
        if self._rate is not None:
            now = self._clock()
            self._next_slot = max(now, self._next_slot + 1 / self._rate)

    def accepted(self) -> None:
        """Notes that the service took a call."""
        now = self._clock()
        self._accepted.append(now)
        while self._accepted and self._accepted[0] < now - WINDOW_S:
            self._accepted.popleft()

    def refused(self, retry_after_s: float | None) -> None:
        """Notes that the service refused a call as too fast, and when it wants the next one."""
        now = self._clock()
        if retry_after_s is not None:
            self._resume_at = max(self._resume_at, now + retry_after_s)
        if now - self._last_refusal < REACTION_S:
            return
        self._last_refusal = now
        recent = sum(1 for moment in self._accepted if moment >= now - WINDOW_S) / WINDOW_S
        base = recent if self._rate is None else self._rate
        self._refused_rate = max(MIN_RATE, base)
        self._rate = self._bounded(self._refused_rate * DECREASE)
        self._last_growth = now

    def _grow(self) -> None:
        now = self._clock()
        elapsed, self._last_growth = now - self._last_growth, now
        if self._rate is not None and self._refused_rate is not None:
            self._rate = self._bounded(self._rate + self._refused_rate * INCREASE_PER_S * elapsed)

    def _bounded(self, rate: float) -> float:
        return max(MIN_RATE, rate if self._max_rate is None else min(rate, self._max_rate))
