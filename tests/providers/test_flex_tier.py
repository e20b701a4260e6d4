"""Calls at the tier flex: what is sent and recorded, shedding, and the fallback to the standard tier."""

import asyncio

import pytest

from promptreel.providers import call_policy, rate_limit, service_health, tiers
from promptreel.providers.answers import generate_checked
from promptreel.providers.call_policy import CallPolicy, CallSubject, CallTally, Halted
from promptreel.providers.tiers import FlexWithFallback
from promptreel.schemas.errors import ModelError
from promptreel.schemas.settings import CallSettings
from promptreel.testing.calls import NoJitter
from tests.fake_gemini import Fault
from tests.models import MemorySink
from tests.providers.gemini_calls import build_request, open_provider


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(rate_limit, "MIN_RATE", 20.0)
    monkeypatch.setattr(tiers, "FLEX_PATIENCE_S", 0.3)


def call_flex(service, *faults, fallback=False, count=1, **settings):
    """Make flex calls; return (answers or failures, call records)."""
    service.set_faults(*faults)
    sink = MemorySink()
    calls = CallSettings(**{"max_attempts": 3, "deadline_s": 20, "max_outage_s": 0, **settings})

    async def call_one(provider, policy, number):
        subject = CallSubject("run_a", "vid_a", f"seg_{number}", f"key_{number}")
        try:
            return await generate_checked(provider, policy, build_request(text=f"q{number}"), subject, CallTally())
        except (ModelError, Halted) as failure:
            return failure

    async def scenario():
        async with open_provider(service.base_url) as provider:
            if fallback:
                policy = FlexWithFallback(provider, calls, sink, jitter=NoJitter())
            else:
                policy = CallPolicy(provider, calls, sink, jitter=NoJitter(), tier="flex")
            return [await call_one(provider, policy, number) for number in range(count)]

    return asyncio.run(scenario()), sink.ended


def tiers_of(records):
    return [(call.tier, call.status, call.code) for call in records]


def test_flex_call_is_sent_and_recorded_with_its_tier_and_costs_half(service):
    (answer,), records = call_flex(service)
    (entry,) = service.ledger.calls()
    assert answer.metadata == {"n": 1}
    assert service.bodies[0]["serviceTier"].lower() == "flex"
    assert tiers_of(records) == [("flex", "success", None)]
    assert service.ledger.bill() == (entry.input_tokens + entry.output_tokens) / 2


def test_standard_call_sends_no_tier(service):
    asyncio.run(_one_standard_call(service))
    assert "serviceTier" not in service.bodies[0]


async def _one_standard_call(service):
    async with open_provider(service.base_url) as provider:
        await provider.call(build_request(), None)


@pytest.mark.parametrize("status", [429, 503])
def test_shed_flex_call_is_retried_at_its_tier(service, status):
    (answer,), records = call_flex(service, Fault(tier="flex", first=2, status=status), fallback=True)
    assert answer.metadata == {"n": 1}
    assert {call.tier for call in records} == {"flex"}
    assert len(records) == 3


@pytest.mark.parametrize(("status", "code"), [(429, "rate_limited"), (503, "model_unavailable")])
def test_shed_flex_call_fails_without_permission_to_fall_back(service, status, code):
    (failure,), records = call_flex(service, Fault(tier="flex", status=status), max_attempts=1)
    assert (failure.code, failure.retryable) == (code, True)
    assert {call.tier for call in records} == {"flex"}


@pytest.mark.parametrize(
    "effect",
    [
        {"status": 503},
        {"status": 429, "quota_value": "0", "quota_id": "a"},
        {"status": 429, "message": "limit per day"},
    ],
)
def test_shed_flex_calls_fall_back_to_the_standard_tier(service, effect):
    answers, records = call_flex(service, Fault(tier="flex", **effect), fallback=True, count=4, max_attempts=2)
    assert [answer.metadata for answer in answers] == [{"n": 1}] * 4
    assert [call.tier for call in records if call.status == "success"] == ["standard"] * 4
    assert {call.status for call in records if call.tier == "flex"} == {"error"}


def test_flex_is_not_called_for_a_while_after_it_granted_no_call(service, monkeypatch):
    monkeypatch.setattr(service_health, "MIN_RATE_LIMIT_PATIENCE_S", 0.2)
    fault = Fault(tier="flex", status=429)
    answers, records = call_flex(service, fault, fallback=True, count=8)
    flex_calls = sum(call.tier == "flex" for call in records)
    assert [answer.metadata for answer in answers] == [{"n": 1}] * 8
    assert [call.tier for call in records[flex_calls:]] == ["standard"] * 8

    monkeypatch.setattr(tiers, "FLEX_PAUSE_S", 0.0)
    _, records = call_flex(service, Fault(tier="flex", text="q0", status=429), fallback=True, count=3)
    assert [call.tier for call in records if call.status == "success"] == ["standard", "flex", "flex"]


def test_rejected_flex_call_does_not_fall_back(service):
    (failure,), records = call_flex(service, Fault(tier="flex", status=400), fallback=True)
    assert failure.code == "model_bad_request"
    assert tiers_of(records) == [("flex", "error", "model_bad_request")]


def test_token_limit_counts_the_calls_of_both_tiers(service):
    answers, records = call_flex(
        service, Fault(tier="flex", text="q0", status=503), fallback=True, count=3, max_total_tokens=11
    )
    assert [call.tier for call in records if call.status == "success"] == ["standard", "flex"]
    assert answers[2].code == "budget_exhausted"


def test_flex_call_may_take_longer_than_the_deadline(service, monkeypatch):
    (answer,), _ = call_flex(service, Fault(delay=0.5), deadline_s=0.3)
    assert answer.metadata == {"n": 1}
    monkeypatch.setattr(call_policy, "FLEX_DEADLINE_FACTOR", 1)
    (failure,), _ = call_flex(service, Fault(delay=0.5), deadline_s=0.3, max_attempts=1)
    assert failure.code == "model_timeout"
