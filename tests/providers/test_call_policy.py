"""The call policy: attempts, pauses, deadlines, halts and records, in virtual time."""

import asyncio
import time

import pytest

from promptreel.providers.call_policy import Halted
from promptreel.schemas.errors import ModelError, StorageError
from promptreel.schemas.settings import CallSettings
from tests.models import REQUEST, SUBJECT, MemorySink, ScriptedModel, policy_for, tally
from tests.virtual_time import run_virtual

UNAVAILABLE = ModelError("model_unavailable", "HTTP 503", retryable=True)
GOOD = {"n": 1}


def make_calls(model, sink=None, count=1, **options):
    """Make concurrent calls; return (outcomes, virtual seconds, tallies)."""

    async def scenario():
        policy = policy_for(model, sink, **options)
        tallies = [tally() for _ in range(count)]
        calls = [policy.call(REQUEST, None, SUBJECT, counts) for counts in tallies]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        return outcomes, asyncio.get_running_loop().time(), tallies

    return run_virtual(scenario())


def test_fault_is_retried_and_every_attempt_is_recorded():
    sink = MemorySink()
    (answer,), seconds, (counts,) = make_calls(ScriptedModel(UNAVAILABLE, UNAVAILABLE, GOOD), sink)
    assert answer.text == '{"n": 1}'
    assert counts.attempts == 3
    assert (
        [call.llm_call_id for call in sink.ended] == list(counts.call_ids) == [call.llm_call_id for call in sink.begun]
    )
    assert [(call.status, call.code, call.attempt) for call in sink.ended] == [
        ("error", "model_unavailable", 1),
        ("error", "model_unavailable", 2),
        ("success", None, 3),
    ]
    assert sink.ended[2].total_tokens == 12
    assert 0 < seconds <= 0.5 + 1.0 + 0.1  # full jitter below 0.5 s, then below 1 s


def test_attempts_are_limited():
    model = ScriptedModel(UNAVAILABLE)
    (error,), _, _ = make_calls(model, settings=CallSettings(max_attempts=3, max_outage_s=0))
    assert error is UNAVAILABLE
    assert len(model.requests) == 3


def test_non_retryable_error_is_not_retried():
    model = ScriptedModel(ModelError("model_bad_request", "HTTP 400"), GOOD)
    (error,), _, _ = make_calls(model)
    assert error.code == "model_bad_request"
    assert len(model.requests) == 1


def test_requested_wait_is_observed():
    wait = ModelError("model_unavailable", "HTTP 503", retryable=True, retry_after_s=7.0)
    _, seconds, _ = make_calls(ScriptedModel(wait, GOOD))
    assert seconds >= 7
    too_long = ModelError("model_unavailable", "HTTP 503", retryable=True, retry_after_s=1000.0)
    (error,), seconds, _ = make_calls(ScriptedModel(too_long, GOOD))
    assert error is too_long
    assert seconds < 1


def test_silent_model_times_out_at_the_deadline():
    sink = MemorySink()
    model = ScriptedModel(GOOD, latency_s=1e6)
    (error,), seconds, _ = make_calls(model, sink, settings=CallSettings(deadline_s=30, max_attempts=2, max_outage_s=0))
    assert (error.code, error.retryable) == ("model_timeout", True)
    assert 60 <= seconds <= 61
    assert [call.code for call in sink.ended] == ["model_timeout"] * 2


def test_daily_quota_halts_all_calls():
    quota = ModelError("quota_exhausted", "daily", retryable=True)
    model = ScriptedModel(quota, latency_s=0.5)

    async def scenario():
        policy = policy_for(model)
        first = await asyncio.gather(policy.call(REQUEST, None, SUBJECT, tally()), return_exceptions=True)
        late = await asyncio.gather(
            *(policy.call(REQUEST, None, SUBJECT, tally()) for _ in range(20)), return_exceptions=True
        )
        return first[0], late

    first, late = run_virtual(scenario())
    assert first is quota
    assert {(type(error), error.code) for error in late} == {(Halted, "quota_exhausted")}
    assert len(model.requests) == 1


def test_stopped_run_makes_no_call_after_a_pause():
    stopped = [False]
    model = ScriptedModel(ModelError("model_unavailable", "x", retryable=True, retry_after_s=60.0), GOOD)

    async def scenario():
        policy = policy_for(model, stopped=lambda: stopped[0])
        call = asyncio.create_task(policy.call(REQUEST, None, SUBJECT, tally()))
        await asyncio.sleep(2)
        stopped[0] = True
        with pytest.raises(Halted) as caught:
            await call
        return caught.value.code, asyncio.get_running_loop().time()

    code, seconds = run_virtual(scenario())
    assert code == "cancelled"
    assert seconds <= 3
    assert len(model.requests) == 1


def test_token_limit_and_deadline_halt_calls():
    async def exceed_token_limit():
        policy = policy_for(ScriptedModel(GOOD), settings=CallSettings(max_total_tokens=20), spent_tokens=5)
        for _ in range(2):
            await policy.call(REQUEST, None, SUBJECT, tally())  # 5 + 12 is below the limit, 5 + 24 is not
        with pytest.raises(Halted) as caught:
            await policy.call(REQUEST, None, SUBJECT, tally())
        return caught.value.code

    assert run_virtual(exceed_token_limit()) == "budget_exhausted"
    (late,), _, _ = make_calls(ScriptedModel(GOOD), deadline=time.time() - 1)
    assert late.code == "deadline_exceeded"


def test_call_is_not_made_if_it_cannot_be_recorded():
    class FullDisk(MemorySink):
        def begin(self, call):
            raise StorageError("disk full")

    model = ScriptedModel(GOOD)
    (error,), _, _ = make_calls(model, FullDisk(), settings=CallSettings(max_attempts=1))
    assert error.code == "storage_failed"
    assert model.requests == []


def test_one_long_wait_does_not_delay_all_calls_as_long():
    hour = ModelError("rate_limited", "HTTP 429", retryable=True, retry_after_s=3600.0)
    (first, *others), seconds, _ = make_calls(ScriptedModel(hour, GOOD), count=3)
    assert first is hour
    assert [answer.text for answer in others] == ['{"n": 1}'] * 2
    assert seconds < 200


def test_failed_preparation_is_retried_within_the_attempts():
    class Uploading(ScriptedModel):
        builds = 0

        async def prepare(self, request):
            self.builds += 1
            if self.builds < 3:
                raise ModelError("rate_limited", "HTTP 429", retryable=True, retry_after_s=5.0)
            return "ready"

    async def scenario(model, attempts):
        policy = policy_for(model, settings=CallSettings(max_attempts=attempts))
        return await policy.prepare(REQUEST), asyncio.get_running_loop().time()

    assert run_virtual(scenario(Uploading(GOOD), 3)) == ("ready", 10.0)
    with pytest.raises(ModelError, match="429"):
        run_virtual(scenario(Uploading(GOOD), 2))


def test_rejected_key_in_an_upload_halts_calls():
    class RejectedKey(ScriptedModel):
        async def prepare(self, request):
            raise ModelError("model_auth", "HTTP 401")

    async def scenario():
        policy = policy_for(RejectedKey(GOOD))
        with pytest.raises(ModelError, match="401"):
            await policy.prepare(REQUEST)
        with pytest.raises(Halted) as caught:
            await policy.prepare(REQUEST)
        return caught.value.code

    assert run_virtual(scenario()) == "model_auth"


def test_rate_limited_calls_slow_down_without_using_attempts():
    rejections = [ModelError("rate_limited", "HTTP 429", retryable=True, retry_after_s=0.5)] * 6
    (answer,), seconds, (counts,) = make_calls(ScriptedModel(*rejections, GOOD), settings=CallSettings(max_attempts=2))
    assert answer.text == '{"n": 1}'
    assert counts.attempts == 7
    assert seconds >= 6 * 0.5


class CountingModel(ScriptedModel):
    """Counts its calls in flight."""

    in_flight = max_in_flight_seen = 0

    async def call(self, request, prepared):
        self.in_flight += 1
        self.max_in_flight_seen = max(self.max_in_flight_seen, self.in_flight)
        try:
            return await super().call(request, prepared)
        finally:
            self.in_flight -= 1


def test_calls_in_flight_are_limited():
    model = CountingModel(GOOD, latency_s=1.0)
    outcomes, seconds, _ = make_calls(model, count=20, settings=CallSettings(max_in_flight=3))
    assert {answer.text for answer in outcomes} == {'{"n": 1}'}
    assert model.max_in_flight_seen == 3
    assert 7 <= seconds <= 7.2  # ceil(20 / 3) rounds


def test_pausing_call_releases_its_slot():
    pause = ModelError("model_unavailable", "HTTP 503", retryable=True, retry_after_s=10.0)
    model = CountingModel(pause, GOOD, latency_s=1.0)
    _, seconds, _ = make_calls(model, count=5, settings=CallSettings(max_in_flight=1))
    # The first call fails at 1 s, the four others follow until 5 s, and the first one's second attempt is at 11 s.
    assert model.max_in_flight_seen == 1
    assert 12 <= seconds <= 12.1
