"""A scripted service with random faults, outages and changing quotas, in virtual time, and the calls of a run to it."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from promptreel.providers.base import ModelAnswer, Provider, Usage
from promptreel.providers.call_policy import CallPolicy, CallSubject, CallTally
from promptreel.providers.service_health import MAX_PROBE_INTERVAL_S, ServiceHealth
from promptreel.schemas.errors import ModelError
from promptreel.schemas.settings import CallSettings
from tests.models import REQUEST, MemorySink
from tests.virtual_time import run_virtual

FAULT_LATENCY_S = 0.05
FAULTS = (
    ModelError("model_unavailable", "HTTP 503 UNAVAILABLE: The model is overloaded.", retryable=True),
    ModelError("model_unavailable", "HTTP 500 INTERNAL: An internal error has occurred.", retryable=True),
    ModelError("model_unavailable", "the service could not be reached (ReadError: reset)", retryable=True),
    ModelError("model_timeout", "HTTP 504 DEADLINE_EXCEEDED: deadline", retryable=True),
)
BAD_REQUEST = ModelError("model_bad_request", "HTTP 400 INVALID_ARGUMENT: Unable to process input image.")


@dataclass(frozen=True)
class Script:
    """What the service does.

    Attributes:
        fault_share: share of the calls that fail outside of outages, drawn for each operation and try.
        outages: (start, end): every call that arrives in between fails.
        quotas: (start, calls per second): the quota from then on; None grants every call.
        latency_s: range of the seconds until an answer.
        poison, rejected: operations that always fail with a 500 or a 400.
    """

    seed: int
    fault_share: float = 0.3
    outages: tuple[tuple[float, float], ...] = ()
    quotas: tuple[tuple[float, float | None], ...] = ((0.0, None),)
    latency_s: tuple[float, float] = (1, 4)
    poison: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()

    def is_down(self, now):
        return any(start <= now < end for start, end in self.outages)

    def rate(self, now):
        return [rate for start, rate in self.quotas if start <= now][-1]

    def fault(self, operation, try_number):
        """Return the fault of one try of an operation outside of outages; None for an answer."""
        draw = random.Random(f"{self.seed}:{operation}:{try_number}")
        return draw.choice(FAULTS) if draw.random() < self.fault_share else None

    def calls_until_answer(self, operation):
        """Return the calls that a caller needs that calls an operation until it answers, outside of outages."""
        tries = 1
        while self.fault(operation, tries) is not None:
            tries += 1
        return tries


class StormyModel(Provider):
    """Plays a script. `forced` counts calls that no caller could avoid besides those of `calls_until_answer`."""

    name = "stormy"

    def __init__(self, script):
        self.script = script
        self.calls = 0
        self.forced = 0
        self.by_operation = Counter()
        self.answered = []  # (start, end) of the calls that were answered
        self.failed_in_outages = []  # times
        self._tries = Counter()
        self._random = random.Random(script.seed)
        self._tokens, self._filled_at = 1.0, 0.0

    def fingerprint(self):
        return {}

    async def call(self, request, prepared):
        now = asyncio.get_running_loop().time()
        operation = request.text
        self.calls += 1
        self.by_operation[operation] += 1
        error = self._error(operation, now)
        if error is not None:
            await asyncio.sleep(FAULT_LATENCY_S)
            raise error
        await asyncio.sleep(self._random.uniform(*self.script.latency_s))
        self.answered.append((now, asyncio.get_running_loop().time()))
        return ModelAnswer('{"n": 1}', "STOP", Usage(total_tokens=1))

    def _error(self, operation, now):
        if self.script.is_down(now):
            self.failed_in_outages.append(now)
            # Until the first failure is known, the caller cannot know of the outage.
            self.forced += any(start <= now < start + FAULT_LATENCY_S for start, _ in self.script.outages)
            return self._random.choice(FAULTS)
        wait = self._quota_wait(now)
        if wait > 0:
            return ModelError(
                "rate_limited", "HTTP 429 RESOURCE_EXHAUSTED: quota exceeded", retryable=True, retry_after_s=wait
            )
        if operation in self.script.poison:
            return FAULTS[1]
        if operation in self.script.rejected:
            return BAD_REQUEST
        self._tries[operation] += 1
        return self.script.fault(operation, self._tries[operation])

    def _quota_wait(self, now):
        """Return 0 for a granted call, otherwise the seconds to wait; the bucket holds the tokens of one second."""
        rate = self.script.rate(now)
        if rate is None:
            return 0.0
        if rate == 0:
            return 20.0
        self._tokens = min(max(1.0, rate), self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / rate


@dataclass
class StormResult:
    """What a run of calls came to. `states` has (time, state or None, its `since`) of every published change."""

    outcomes: dict
    model: StormyModel
    seconds: float
    states: list = field(default_factory=list)

    def lost(self):
        """Operations without an answer."""
        return {name for name, outcome in self.outcomes.items() if isinstance(outcome, Exception)}

    def state_at(self, moment):
        return next((state for time, state, _ in reversed(self.states) if time <= moment), None)


def run_storm(script, operations=600, **settings):
    """Call each operation through one policy, as a run does; return the `StormResult`."""

    async def scenario():
        loop = asyncio.get_running_loop()
        model, states = StormyModel(script), []
        calls = CallSettings(**settings)
        jitter, started = random.Random(script.seed), time.time()
        health = ServiceHealth(
            calls.max_outage_s,
            clock=loop.time,
            jitter=jitter,
            on_change=lambda state: states.append((loop.time(), state, state and state.since - started)),
        )
        policy = CallPolicy(model, calls, MemorySink(), jitter=jitter, health=health)
        window = asyncio.Semaphore(calls.max_in_flight * 5 // 4)

        async def one(name):
            async with window:
                request = REQUEST.__class__("metadata_extraction", "", name, REQUEST.json_schema)
                return await policy.call(request, None, CallSubject("run", "vid", name, name), CallTally())

        names = [f"op {number}" for number in range(operations)]
        outcomes = await asyncio.gather(*(one(name) for name in names), return_exceptions=True)
        return StormResult(dict(zip(names, outcomes, strict=True)), model, loop.time(), states)

    return run_virtual(scenario())


def minimum_calls(result):
    """Return the calls of a caller that loses nothing and wastes nothing, see `tests.providers.test_storm`."""
    script = result.model.script
    answered = [name for name in result.outcomes if name not in result.lost()]
    probes = sum(
        max(1, round((min(end, result.seconds) - start) / MAX_PROBE_INTERVAL_S))
        for start, end in script.outages
        if start < result.seconds
    )
    others = sum(result.model.by_operation[name] for name in result.lost())
    return sum(script.calls_until_answer(name) for name in answered) + result.model.forced + probes + others
