"""The adaptive rate limit against simulated quotas, in virtual time."""

import asyncio
import random

import pytest

from promptreel.providers.rate_limit import AdaptiveRateLimit
from tests.virtual_time import run_virtual


class Quota:
    """A service that accepts `rate` calls per second with a burst, and rejects the others at once."""

    def __init__(self, rate, burst):
        self.rate, self.burst, self.tokens, self.last = rate, burst, float(burst), 0.0

    def retry_after(self, now):
        self.tokens = min(self.burst, self.tokens + (now - self.last) * self.rate)
        self.last = now
        if self.tokens >= 1:
            self.tokens -= 1
            return None
        return (1 - self.tokens) / self.rate


async def make_calls(count, quota, latency_s=0.5, window=64, max_rate=None, reports_delay=True, travel_s=0.003):
    """Return (calls per second, share of rejected calls) of a client that retries rejected calls.

    Args:
        travel_s: delay until the client learns of a rejection.
    """
    clock = asyncio.get_running_loop().time
    limit, slots, jitter = AdaptiveRateLimit(max_rate), asyncio.Semaphore(window), random.Random(1)
    sent = rejected = 0

    async def call_once():
        nonlocal sent, rejected
        async with slots:
            while True:
                await limit.acquire()
                sent += 1
                wait = quota.retry_after(clock()) if quota else None
                if wait is None:
                    await asyncio.sleep(latency_s)
                    return
                rejected += 1
                await asyncio.sleep(travel_s)
                limit.record_rejection(wait if reports_delay else None)
                await asyncio.sleep(jitter.uniform(0, 0.05))

    await asyncio.gather(*(call_once() for _ in range(count)))
    return count / clock(), rejected / sent


def test_without_a_quota_only_the_window_limits_calls():
    rate, rejected = run_virtual(make_calls(2000, None))
    assert rejected == 0
    assert rate > 0.95 * 64 / 0.5


@pytest.mark.parametrize("reports_delay", [True, False])
def test_quota_with_a_burst_is_used_with_few_rejections(reports_delay):
    rate, rejected = run_virtual(make_calls(2000, Quota(40, 40), reports_delay=reports_delay))
    assert rate >= 0.95 * 40
    assert rejected <= 0.07


def test_burst_is_soon_distinguished_from_the_rate():
    # 400 calls use ten seconds of this quota, short enough to show the cost of the first estimate.
    rate, rejected = run_virtual(make_calls(400, Quota(40, 40), travel_s=0.05))
    assert rate >= 0.95 * 40
    assert rejected <= 0.07


def test_rare_rejections_do_not_slow_calls_down():
    class RandomRejections:
        chance = random.Random(3)

        def retry_after(self, now):
            return 0.0 if self.chance.random() < 0.01 else None

    rate, _ = run_virtual(make_calls(2000, RandomRejections()))
    assert rate > 0.85 * 64 / 0.5


def test_quota_without_a_burst_is_found():
    rate, rejected = run_virtual(make_calls(2000, Quota(40, 1)))
    assert rate >= 0.8 * 40
    assert rejected <= 0.07


def test_maximum_rate_is_never_exceeded():
    rate, rejected = run_virtual(make_calls(200, None, max_rate=10))
    assert rate <= 10.1
    assert rejected == 0


def test_raised_quota_is_found():
    class Raised(Quota):
        def retry_after(self, now):
            self.rate = 5 if now < 60 else 40
            return super().retry_after(now)

    rate, _ = run_virtual(make_calls(3000, Raised(5, 5)))
    # 300 calls in the first minute, then 2,700: all of them would take 600 s at 5 per second.
    assert 3000 / rate < 250


def test_waiting_caller_gives_up_when_its_check_raises():
    class Stopped(Exception):
        pass

    async def scenario():
        limit = AdaptiveRateLimit()
        limit.record_rejection(100.0)
        loop = asyncio.get_running_loop()
        loop.call_later(3, stopped.set)

        def check():
            if stopped.is_set():
                raise Stopped

        with pytest.raises(Stopped):
            await limit.acquire(check)
        return loop.time()

    stopped = asyncio.Event()
    assert 3 <= run_virtual(scenario()) <= 4
