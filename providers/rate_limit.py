"""A token bucket whose rate finds the service's own limit: additive increase, multiplicative decrease.

AIMD is the control law of TCP's congestion avoidance (Chiu and Jain, 1989). No limit is assumed until the service
first says "too fast"; the rate then starts from what it has accepted of late.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

# After a refusal the rate falls to this share of itself. Shallow, because a refused call costs nothing but itself, while
# an idle quota is lost time.
DECREASE: Final = 0.9
# Where enough calls were sent since the refusal before, what the service accepted of them is its limit: the rate falls to
# that, so that a first estimate that took a burst for the limit is fixed at once; at most to this share of itself.
DEEPEST_DECREASE: Final = 0.5
MEASURED_CALLS: Final = 10
# So large a share of refusals is the price of a quota that is used up, or comes of load that is not ours: it does not
# lower the rate.
TOLERATED_SHARE: Final = 0.03
# The rate grows by this share of the last refused rate for each second without a refusal, and faster the longer none
# has come (as TCP CUBIC does, RFC 9438), so that a quota that was raised is found too.
INCREASE_PER_S: Final = 0.01
ACCELERATION_S: Final = 5.0
# The first estimate is low where the service allows no burst: until a second refusal the rate grows exponentially
# (TCP's slow start), by this factor in a second.
SLOW_START_PER_S: Final = 1.5
USED_SHARE: Final = 0.5
WINDOW_S: Final = 1.0
# A second refusal within this time answers calls sent before the first was known: it does not lower the rate again.
REACTION_S: Final = 0.5
# Before any refusal calls are spaced by this rate, doubling every half second from the first call on, so that the first
# refusal is known before a whole window of calls has run into it.
FIRST_RATE: Final = 200.0
DOUBLING_S: Final = 0.5
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
        self._slow_start = False
        self._last_refusal = float("-inf")
        self._first_call: float | None = None
        self._last_growth = self._clock()
        self._sent: deque[float] = deque()
        self._refused: deque[float] = deque()
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
        now = self._clock()
        self._sent.append(now)
        _forget(self._sent, now - WINDOW_S)
        self._next_slot = max(now, self._next_slot) + 1 / self._pace(now)

    def _pace(self, now: float) -> float:
        if self._rate is not None:
            return self._rate
        if self._first_call is None:
            self._first_call = now
        return FIRST_RATE * 2 ** min(20.0, (now - self._first_call) / DOUBLING_S)

    def refused(self, retry_after_s: float | None) -> None:
        """Notes that the service refused a call as too fast, and when it wants the next one."""
        now = self._clock()
        if retry_after_s is not None:
            self._resume_at = max(self._resume_at, now + retry_after_s)
        self._refused.append(now)
        _forget(self._sent, now - WINDOW_S)
        _forget(self._refused, now - WINDOW_S)
        if now - self._last_refusal < REACTION_S or self._is_tolerated():
            return
        self._slow_start = self._rate is None
        self._last_refusal = now
        if self._rate is None:
            self._refused_rate = max(MIN_RATE, self._accepted_rate(now, WINDOW_S))
            self._rate = self._bounded(self._refused_rate * DECREASE)
        else:
            self._refused_rate = self._rate
            self._rate = self._bounded(self._lowered(self._rate, now))
        self._last_growth = now

    def _is_tolerated(self) -> bool:
        return self._rate is not None and len(self._refused) <= TOLERATED_SHARE * len(self._sent)

    def _lowered(self, rate: float, now: float) -> float:
        lowered = rate * DECREASE
        if _count(self._sent, now - REACTION_S) < MEASURED_CALLS:
            return lowered
        return min(lowered, max(self._accepted_rate(now, REACTION_S), rate * DEEPEST_DECREASE))

    def _accepted_rate(self, now: float, window_s: float) -> float:
        """Calls of the last so many seconds that were not refused, for each second; those still under way count as taken."""
        begin = now - window_s
        return (_count(self._sent, begin) - _count(self._refused, begin)) / window_s

    def _grow(self) -> None:
        now = self._clock()
        elapsed, self._last_growth = now - self._last_growth, now
        if self._rate is None or self._refused_rate is None or elapsed <= 0 or not self._is_used(now):
            return
        if self._slow_start:
            self._rate = self._bounded(self._rate * SLOW_START_PER_S**elapsed)
            return
        quiet = (now - self._last_refusal) / ACCELERATION_S
        self._rate = self._bounded(self._rate + self._refused_rate * INCREASE_PER_S * (1 + quiet**2) * elapsed)

    def _is_used(self, now: float) -> bool:
        """Whether the rate is what holds calls back: one that is not used proves nothing (RFC 7661)."""
        _forget(self._sent, now - WINDOW_S)
        return self._rate is not None and len(self._sent) >= USED_SHARE * self._rate * WINDOW_S

    def _bounded(self, rate: float) -> float:
        return max(MIN_RATE, rate if self._max_rate is None else min(rate, self._max_rate))


def _count(moments: deque[float], since: float) -> int:
    return sum(moment >= since for moment in moments)


def _forget(moments: deque[float], before: float) -> None:
    while moments and moments[0] < before:
        moments.popleft()
