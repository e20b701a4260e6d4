"""A token bucket whose rate adapts to the service's limit: additive increase, multiplicative decrease.

AIMD is the control law of TCP's congestion avoidance (Chiu and Jain, 1989). The rate is unlimited until the service
first rejects a call as too fast; it then starts from the rate that the service has accepted recently.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

# Factor of the rate after a rejection. Shallow, because a rejected call costs little, and unused quota is lost time.
DECREASE: Final = 0.9
# If at least MEASURED_CALLS were sent within REACTION_S, the rate that the service accepted is its limit: our rate
# falls to it at once, by this factor at most. This corrects a first estimate that measured a burst.
DEEPEST_DECREASE: Final = 0.5
MEASURED_CALLS: Final = 10
# A share of rejections up to this does not lower the rate: it is normal at full use of the quota, or caused by other
# clients.
TOLERATED_SHARE: Final = 0.03
# The rate grows by this share of the last rejected rate per second without a rejection, and faster as time passes (like
# TCP CUBIC, RFC 9438), so that it also finds a raised quota.
INCREASE_PER_S: Final = 0.01
ACCELERATION_S: Final = 5.0
# The first estimate is too low if the service allows no burst: until the second rejection the rate grows exponentially
# (TCP's slow start), by this factor per second.
SLOW_START_PER_S: Final = 1.5
USED_SHARE: Final = 0.5
WINDOW_S: Final = 1.0
# Rejections within this time of the first concern calls sent before it was known: they do not lower the rate again.
REACTION_S: Final = 0.5
# Before the first rejection, calls are spaced by this rate, which doubles every DOUBLING_S, so that a rejection arrives
# before all calls in flight have been rejected.
FIRST_RATE: Final = 200.0
DOUBLING_S: Final = 0.5
# The first rate after an outage, from which it grows by SLOW_START_PER_S.
RESTART_RATE: Final = 4.0
MIN_RATE: Final = 0.05  # one call in 20 s
CHECK_INTERVAL_S: Final = 0.5


class AdaptiveRateLimit:
    """Admits calls. Used from one event loop only.

    Args:
        max_rate: maximum calls per second; None sets no maximum.
        clock: monotonic, in seconds.
    """

    def __init__(self, max_rate: float | None = None, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or asyncio.get_running_loop().time
        self._max_rate = max_rate
        self._rate = max_rate
        self._rejected_rate: float | None = None
        self._next_slot = float("-inf")
        self._resume_at = float("-inf")
        self._slow_start = False
        self._last_rejection = float("-inf")
        self._first_call: float | None = None
        self._last_growth = self._clock()
        self._sent: deque[float] = deque()
        self._rejected: deque[float] = deque()
        self._lock = asyncio.Lock()

    @property
    def rate(self) -> float | None:
        """The current rate in calls per second; None while no limit is known."""
        return self._rate

    async def acquire(self, check: Callable[[], None] = lambda: None) -> None:
        """Wait until a call may be sent. Callers are admitted in order of arrival.

        Args:
            check: called at least twice a second while waiting, and once before admission; raises to give up.
        """
        async with self._lock:
            while (wait := self._wait()) > 0:
                check()
                await asyncio.sleep(min(wait, CHECK_INTERVAL_S))
            check()
            self._admit()

    def _wait(self) -> float:
        self._grow()
        return max(self._next_slot, self._resume_at) - self._clock()

    def _admit(self) -> None:
        now = self._clock()
        self._sent.append(now)
        _drop_before(self._sent, now - WINDOW_S)
        self._next_slot = max(now, self._next_slot) + 1 / self._pace(now)

    def _pace(self, now: float) -> float:
        if self._rate is not None:
            return self._rate
        if self._first_call is None:
            self._first_call = now
        return FIRST_RATE * 2 ** min(20.0, (now - self._first_call) / DOUBLING_S)

    def record_rejection(self, retry_after_s: float | None) -> None:
        """Record that the service rejected a call as too fast, and the delay that it requested, if any."""
        now = self._clock()
        if retry_after_s is not None:
            self._resume_at = max(self._resume_at, now + retry_after_s)
        self._rejected.append(now)
        _drop_before(self._sent, now - WINDOW_S)
        _drop_before(self._rejected, now - WINDOW_S)
        if now - self._last_rejection < REACTION_S or self._is_tolerated():
            return
        self._slow_start = self._rate is None
        self._last_rejection = now
        if self._rate is None:
            self._rejected_rate = max(MIN_RATE, self._accepted_rate(now, WINDOW_S))
            self._rate = self._bounded(self._rejected_rate * DECREASE)
        else:
            self._rejected_rate = self._rate
            self._rate = self._bounded(self._lowered(self._rate, now))
        self._last_growth = now

    def restart(self) -> None:
        """Start again at a low rate, after an outage of the service."""
        self._rejected_rate = RESTART_RATE
        self._rate = min(self._bounded(RESTART_RATE), self._rate or RESTART_RATE)
        self._slow_start = True
        self._last_growth = self._clock()

    def _is_tolerated(self) -> bool:
        return self._rate is not None and len(self._rejected) <= TOLERATED_SHARE * len(self._sent)

    def _lowered(self, rate: float, now: float) -> float:
        lowered = rate * DECREASE
        if _count(self._sent, now - REACTION_S) < MEASURED_CALLS:
            return lowered
        return min(lowered, max(self._accepted_rate(now, REACTION_S), rate * DEEPEST_DECREASE))

    def _accepted_rate(self, now: float, window_s: float) -> float:
        """Return the calls per second in the window that were not rejected; calls in flight count as accepted."""
        start = now - window_s
        return (_count(self._sent, start) - _count(self._rejected, start)) / window_s

    def _grow(self) -> None:
        now = self._clock()
        elapsed, self._last_growth = now - self._last_growth, now
        if self._rate is None or self._rejected_rate is None or elapsed <= 0 or not self._is_used(now):
            return
        if self._slow_start:
            self._rate = self._bounded(self._rate * SLOW_START_PER_S**elapsed)
            return
        quiet = (now - self._last_rejection) / ACCELERATION_S
        self._rate = self._bounded(self._rate + self._rejected_rate * INCREASE_PER_S * (1 + quiet**2) * elapsed)

    def _is_used(self, now: float) -> bool:
        """Return whether calls use enough of the rate to justify raising it (RFC 7661)."""
        _drop_before(self._sent, now - WINDOW_S)
        return self._rate is not None and len(self._sent) >= USED_SHARE * self._rate * WINDOW_S

    def _bounded(self, rate: float) -> float:
        return max(MIN_RATE, rate if self._max_rate is None else min(rate, self._max_rate))


def _count(times: deque[float], since: float) -> int:
    return sum(time_s >= since for time_s in times)


def _drop_before(times: deque[float], before: float) -> None:
    while times and times[0] < before:
        times.popleft()
