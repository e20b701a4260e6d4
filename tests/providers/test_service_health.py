"""The calls of a run while the service is down, its rate limit grants none, or all requests are rejected alike."""

import asyncio
import itertools

import pytest

from promptreel.providers.call_policy import CallPolicy, CallSubject, CallTally, Halted
from promptreel.providers.repeated_errors import REPEATS
from promptreel.providers.service_health import NO_QUOTA_PATIENCE_S, RECENT_CALLS, ServiceHealth
from promptreel.schemas.errors import ModelError
from promptreel.schemas.service_state import ServiceState, error_identity
from promptreel.schemas.settings import CallSettings
from tests.models import REQUEST, MemorySink, ScriptedModel
from tests.virtual_time import run_virtual

UNAVAILABLE = ModelError("model_unavailable", "HTTP 503 UNAVAILABLE: The model is overloaded.", retryable=True)
LOCATION = ModelError("model_bad_request", "HTTP 400 FAILED_PRECONDITION: too many states for serving")
LIMITED = ModelError("rate_limited", "HTTP 429: Quota exceeded, limit: 5", retryable=True, retry_after_s=10.0)
NO_QUOTA = ModelError("rate_limited", "HTTP 429: limit: 0", retryable=True, retry_after_s=10.0, has_no_quota=True)
NO_QUOTA_YET = ModelError("rate_limited", "HTTP 429: limit: 0", retryable=True, has_no_quota=True)


class TimedModel(ScriptedModel):
    """Answers with `error_at(operation, time)`, or with {"n": 1} if that is None."""

    def __init__(self, error_at, latency_s=0.5, error_latency_s=0.05):
        super().__init__({"n": 1}, latency_s=latency_s)
        self.error_at = error_at
        self.error_latency_s = error_latency_s
        self.times = []

    async def call(self, request, prepared):
        now = asyncio.get_running_loop().time()
        self.times.append((now, request.text))
        error = self.error_at(request.text, now)
        if error is not None:
            await asyncio.sleep(self.error_latency_s)
            raise error
        return await super().call(request, prepared)


def run_operations(error_at, count=24, latency_s=0.5, error_latency_s=0.05, **settings):
    """Make the calls of `count` operations, named by number; return (outcomes, model, published states, seconds)."""

    async def scenario():
        model, states = TimedModel(error_at, latency_s, error_latency_s), []
        calls, clock = CallSettings(**settings), asyncio.get_running_loop().time
        health = ServiceHealth(calls.max_outage_s, clock=clock, on_change=states.append)
        policy = CallPolicy(model, calls, MemorySink(), health=health)

        async def one(name):
            request = REQUEST.__class__("metadata_extraction", "", name, REQUEST.json_schema)
            return await policy.call(request, None, CallSubject("run", "vid", name, name), CallTally())

        outcomes = await asyncio.gather(*(one(str(number)) for number in range(count)), return_exceptions=True)
        return outcomes, model, states, clock()

    return run_virtual(scenario())


def codes(outcomes):
    return {outcome.code for outcome in outcomes if isinstance(outcome, Exception)}


@pytest.mark.parametrize("in_flight", [4, 64])
def test_outage_of_25_seconds_fails_no_operation(in_flight):
    outcomes, model, states, seconds = run_operations(
        lambda name, now: UNAVAILABLE if now < 25 else None, max_in_flight=in_flight
    )
    assert not codes(outcomes)
    assert len(model.times) <= 24 + 24 + 8  # a call of each, then probes
    assert 25 <= seconds <= 70
    assert states[0].status == "overloaded"
    assert "overloaded" in states[0].message
    assert states[-1] is None


def test_probes_come_one_at_a_time_with_growing_intervals():
    _, model, _, _ = run_operations(lambda name, now: UNAVAILABLE if now < 300 else None)
    probes = [now for now, _ in model.times if 1 < now < 300]
    gaps = [later - earlier for earlier, later in itertools.pairwise(probes)]
    assert len(probes) <= 16
    assert min(gaps) > 1
    assert max(gaps) <= 1.25 * 30 + 1


def test_probe_waits_as_long_as_the_service_requests():
    wait = ModelError("model_unavailable", "HTTP 503", retryable=True, retry_after_s=40.0)
    _, model, _, _ = run_operations(lambda name, now: wait if now < 30 else None)
    assert next(now for now, _ in model.times if now > 1) >= 40


def test_operation_that_always_fails_has_its_own_attempts():
    outcomes, model, states, _ = run_operations(lambda name, now: UNAVAILABLE if name == "3" else None, count=24)
    assert [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)] == [ModelError]
    assert [name for _, name in model.times].count("3") == 5
    assert states == []


@pytest.mark.parametrize(("count", "attempts"), [(4, 1), (4, 5), (24, 1)])
def test_answers_to_later_calls_end_the_wait_for_one_operation(count, attempts):
    """The others were called after operation 1 and answered after its attempts were used up, so the service is up."""
    outcomes, model, states, seconds = run_operations(
        lambda name, now: UNAVAILABLE if name == "1" else None, count=count, max_attempts=attempts, latency_s=30
    )
    assert [getattr(outcome, "code", None) for outcome in outcomes] == [None, "model_unavailable"] + [None] * (
        count - 2
    )
    assert seconds < 90
    assert [name for _, name in model.times].count("1") <= attempts + 7
    assert states[-1] is None


@pytest.mark.parametrize("count", [2, 24])
def test_patience_ends_with_retryable_failures(count):
    outcomes, model, states, seconds = run_operations(lambda name, now: UNAVAILABLE, count=count, max_outage_s=90)
    assert codes(outcomes) == {"model_unavailable"}
    assert all(isinstance(outcome, Halted) or outcome.retryable for outcome in outcomes)
    assert 90 <= seconds <= 100
    assert len(model.times) <= count * 5 + 10
    if count == 24:
        assert {type(outcome) for outcome in outcomes} == {Halted}
        assert "no call succeeded for 90 s" in outcomes[0].message
        assert (states[-1].status, states[-1].code) == ("halted", "model_unavailable")


@pytest.mark.parametrize("patience_s", [0, 30, 600])
def test_quota_of_zero_is_shown_and_then_halts_calls(patience_s):
    outcomes, model, states, seconds = run_operations(
        lambda name, now: NO_QUOTA, max_in_flight=1, max_outage_s=patience_s
    )
    assert codes(outcomes) == {"quota_exhausted"}
    assert all(isinstance(outcome, Halted) or outcome.retryable for outcome in outcomes)
    assert "the quota for this model is 0: HTTP 429: limit: 0" in outcomes[1].message
    assert len(model.times) <= 5
    expected_s = min(patience_s, NO_QUOTA_PATIENCE_S)
    assert expected_s <= seconds <= expected_s + 30
    assert [state.status for state in states] == (["rate limited"] if patience_s else []) + ["halted"]
    assert {state.message for state in states} == {NO_QUOTA.message}


@pytest.mark.parametrize("error_latency_s", [0.001, 0.05, 0.5, 5])
@pytest.mark.parametrize(("patience_s", "probes"), [(1, 2), (60, 7)])
@pytest.mark.parametrize("in_flight", [1, 8, 64])
def test_quota_of_zero_costs_calls_in_flight_and_probes(in_flight, patience_s, probes, error_latency_s):
    """However late the first rejection arrives, no call follows those in flight but one probe at a time."""
    outcomes, model, _, seconds = run_operations(
        lambda name, now: NO_QUOTA_YET,
        count=200,
        error_latency_s=error_latency_s,
        max_in_flight=in_flight,
        max_outage_s=patience_s,
    )
    assert codes(outcomes) == {"quota_exhausted"}
    assert len(model.times) <= in_flight + probes
    assert patience_s <= seconds <= patience_s + 2 * error_latency_s + 1


def test_quota_of_zero_of_some_calls_delays_no_others():
    """E.g. a quota per kind of input: the service answered one of the recent calls, so only its rate limit applies."""
    health = ServiceHealth(60, clock=lambda: 0.0)
    health.end(health.begin("answered"), None)
    for number in range(1, RECENT_CALLS):
        health.end(health.begin(f"limited {number}"), NO_QUOTA_YET)
        assert not health.is_down
    health.end(health.begin("limited"), NO_QUOTA_YET)
    assert health.waits_for_quota
    assert health.begin("next") is None


def test_quota_that_falls_to_zero_in_the_middle_halts_calls():
    outcomes, model, _, seconds = run_operations(
        lambda name, now: NO_QUOTA_YET if now > 3 else None, count=200, max_in_flight=8
    )
    assert codes(outcomes) == {"quota_exhausted"}
    assert sum(now > 3 for now, _ in model.times) <= 15 + 8 + 7
    assert seconds <= 3 + NO_QUOTA_PATIENCE_S + 5


def test_overload_during_a_quota_of_zero_waits_with_its_patience():
    outcomes, model, states, _ = run_operations(
        lambda name, now: NO_QUOTA_YET if now < 10 else UNAVAILABLE if now < 200 else None, max_in_flight=8
    )
    assert not codes(outcomes)
    assert states[-1] is None
    assert {state.status for state in states if state} == {"rate limited", "overloaded"}
    assert len(model.times) <= 24 + 8 + 20


def test_quota_of_zero_after_an_outage_halts_calls():
    outcomes, model, _, _ = run_operations(
        lambda name, now: UNAVAILABLE if now < 45 else NO_QUOTA_YET, max_in_flight=8, max_outage_s=50
    )
    assert codes(outcomes) == {"quota_exhausted"}
    assert len(model.times) <= 24 + 16


def test_quota_that_is_raised_in_time_loses_nothing():
    outcomes, _, states, _ = run_operations(lambda name, now: NO_QUOTA if now < 40 else None)
    assert not codes(outcomes)
    assert [state and state.status for state in states] == ["rate limited", None]


def test_rate_limit_that_grants_nothing_halts_with_its_message():
    outcomes, model, states, seconds = run_operations(lambda name, now: LIMITED, max_outage_s=300)
    assert codes(outcomes) == {"quota_exhausted"}
    assert "limit: 5" in outcomes[0].message
    assert 300 <= seconds <= 330
    assert states[0].status == "rate limited"
    assert states[0].message == LIMITED.message
    assert len(model.times) <= 24 + 40


def test_rate_limit_that_grants_again_in_time_loses_nothing():
    outcomes, _, states, _ = run_operations(lambda name, now: LIMITED if now < 250 else None, max_attempts=1)
    assert not codes(outcomes)
    assert states[-1] is None


@pytest.mark.parametrize("after", [0, 10])
def test_same_permanent_error_of_several_operations_halts(after):
    outcomes, model, states, _ = run_operations(
        lambda name, now: LOCATION if int(name) >= after else None, max_in_flight=1
    )
    assert len(model.times) == after + REPEATS
    assert codes(outcomes) == {"model_bad_request"}
    assert [type(outcome) for outcome in outcomes[after + REPEATS :]] == [Halted] * (24 - after - REPEATS)
    assert (states[-1].status, states[-1].message) == ("halted", LOCATION.message)


@pytest.mark.parametrize(
    "error_of",
    [
        lambda name: LOCATION if int(name) % 3 else None,  # others succeed
        lambda name: ModelError("model_bad_request", "HTTP 400: Unable to process input image"),
        lambda name: ModelError("model_bad_request", f"HTTP 400: request {name} exceeds the limit by {name}"),
        lambda name: LOCATION if name in ("3", "9", "15") else None,
    ],
    ids=["others succeed", "about the media", "different", "few of many in flight"],
)
@pytest.mark.parametrize("in_flight", [1, 64])
def test_errors_of_single_operations_do_not_halt(error_of, in_flight):
    outcomes, model, states, _ = run_operations(lambda name, now: error_of(name), max_in_flight=in_flight)
    assert len(model.times) == 24
    assert Halted not in {type(outcome) for outcome in outcomes}
    assert states == []


def test_policies_that_share_health_wait_and_halt_together():
    async def scenario():
        clock = asyncio.get_running_loop().time
        health = ServiceHealth(60, clock=clock)
        segments, synthesis = TimedModel(lambda name, now: UNAVAILABLE), TimedModel(lambda name, now: UNAVAILABLE)
        subjects = [CallSubject("run", "vid", str(number), str(number)) for number in range(24)]
        policy = CallPolicy(segments, CallSettings(), MemorySink(), health=health)
        calls = [policy.call(REQUEST, None, subject, CallTally()) for subject in subjects]
        first = asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(5)
        other = CallPolicy(synthesis, CallSettings(), MemorySink(), health=health)
        with pytest.raises(Halted) as caught:
            await other.call(REQUEST, None, subjects[0], CallTally())
        await first
        return caught.value.code, len(synthesis.times)

    code, calls = run_virtual(scenario())
    assert code == "model_unavailable"
    assert calls <= 5  # probes


def test_identity_of_an_error_ignores_ids_but_not_numbers():
    first, second = (
        "HTTP 400: file files/abc-1 of 3f2a9c1e77b04d5f9a00 failed",
        "HTTP 400: file files/x2 of 9a00000012345678bcde failed",
    )
    assert error_identity(first) == error_identity(second)
    assert error_identity("12 tokens exceed 10") != error_identity("13 tokens exceed 10")


def test_state_is_described_with_times_and_the_message():
    state = ServiceState("overloaded", 0.0, "HTTP 503 UNAVAILABLE:\nbusy", next_probe_at=75.0)
    assert (
        state.describe() == "service overloaded since 00:00 UTC, next probe at 00:01:15 UTC: HTTP 503 UNAVAILABLE: busy"
    )
    assert ", next probe in 15 s: HTTP 503" in state.describe(60.0)
    limited = ServiceState("rate limited", 0.0, "limit: 5")
    assert limited.describe() == "rate limited since 00:00 UTC: limit: 5"
    assert [limited.is_shown(2.0), limited.is_shown(4.0)] == [False, True]
