"""The adaptive rate limit against simulated quotas, in virtual time."""

import asyncio
import random

import pytest

from promptreel.providers.rate_limit import AdaptiveRateLimit
from tests.virtual_time import run_virtual


class Quota:
    """A service that takes `rate` calls a second with a burst, and refuses the others at once."""

    def __init__(self, rate, burst):
        self.rate, self.burst, self.tokens, self.last = rate, burst, float(burst), 0.0

    def retry_after(self, now):
        self.tokens = min(self.burst, self.tokens + (now - self.last) * self.rate)
        self.last = now
        if self.tokens >= 1:
            self.tokens -= 1
            return None
        return (1 - self.tokens) / self.rate


async def make_calls(count, quota, latency_s=0.5, window=64, max_rate=None, tells_delay=True, travel_s=0.003):
    """(calls per second, share of calls refused) of a caller that repeats what is refused; a refusal is known after
    `travel_s`."""
    clock = asyncio.get_running_loop().time
    limit, slots, jitter = AdaptiveRateLimit(max_rate), asyncio.Semaphore(window), random.Random(1)
    sent = refused = 0

    async def one():
        nonlocal sent, refused
        async with slots:
            while True:
                await limit.acquire()
                sent += 1
                wait = quota.retry_after(clock()) if quota else None
                if wait is None:
                    await asyncio.sleep(latency_s)
                    return
                refused += 1
                await asyncio.sleep(travel_s)
                limit.record_rejection(wait if tells_delay else None)
                await asyncio.sleep(jitter.uniform(0, 0.05))

    await asyncio.gather(*(one() for _ in range(count)))
    return count / clock(), refused / sent


def test_without_a_limit_the_window_alone_holds_calls_back():
    rate, refused = run_virtual(make_calls(2000, None))
    assert refused == 0
    assert rate > 0.95 * 64 / 0.5


@pytest.mark.parametrize("tells_delay", [True, False])
def test_a_quota_with_a_burst_is_used_up_and_seldom_overrun(tells_delay):
    rate, refused = run_virtual(make_calls(2000, Quota(40, 40), tells_delay=tells_delay))
    assert rate >= 0.95 * 40
    assert refused <= 0.07


def test_a_burst_is_not_taken_for_the_rate_for_long():
    # 400 calls are ten seconds of this quota, so that what the first estimate costs shows.
    rate, refused = run_virtual(make_calls(400, Quota(40, 40), travel_s=0.05))
    assert rate >= 0.95 * 40
    assert refused <= 0.07


def test_a_few_refusals_whatever_the_rate_do_not_slow_calls_down():
    class Unlucky:
        chance = random.Random(3)

        def retry_after(self, now):
            return 0.0 if self.chance.random() < 0.01 else None

    rate, _ = run_virtual(make_calls(2000, Unlucky()))
    assert rate > 0.85 * 64 / 0.5


def test_a_quota_without_a_burst_is_found_in_time():
    rate, refused = run_virtual(make_calls(2000, Quota(40, 1)))
    assert rate >= 0.8 * 40
    assert refused <= 0.07


def test_a_rate_of_ones_own_is_never_exceeded():
    rate, refused = run_virtual(make_calls(200, None, max_rate=10))
    assert rate <= 10.1
    assert refused == 0


def test_a_quota_that_is_raised_is_found():
    class Raised(Quota):
        def retry_after(self, now):
            self.rate = 5 if now < 60 else 40
            return super().retry_after(now)

    rate, _ = run_virtual(make_calls(3000, Raised(5, 5)))
    # 300 calls in the first minute, then 2,700: at 5 a second they would take 600 s in all
    assert 3000 / rate < 250


def test_a_waiting_caller_gives_up_when_its_check_raises():
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
