"""One table of faults of a model service, and what every provider makes of them."""

import pytest

from promptreel.providers.gemini import GeminiProvider
from promptreel.providers.openai_compatible import OpenAIProvider
from promptreel.schemas.settings import CallSettings, ModelSettings
from tests.fake_gemini import FakeGemini, Fault
from tests.fake_openai import FakeOpenAI
from tests.providers.gemini_calls import MODEL, build_request
from tests.providers.provider_calls import call_provider

# Fault: (code of the failure, or None if the operation succeeds; requests sent; answers that are paid).
CASES = {
    "none": (Fault(), None, 1, 1),
    "400": (Fault(status=400, message="the request is invalid"), "model_bad_request", 1, 0),
    "401": (Fault(status=401), "model_auth", 1, 0),
    "403": (Fault(status=403), "model_auth", 1, 0),
    "404": (Fault(status=404), "model_not_found", 1, 0),
    "408": (Fault(status=408), "model_timeout", 3, 0),
    "429 once": (Fault(first=1, status=429, retry_after=0.01), None, 2, 1),
    "429": (Fault(status=429, retry_after=0.01), "rate_limited", 12, 0),
    "500 once": (Fault(first=1, status=500), None, 2, 1),
    "500": (Fault(status=500), "model_unavailable", 3, 0),
    "502 with HTML": (Fault(html=True), "model_unavailable", 3, 0),
    "503": (Fault(status=503), "model_unavailable", 3, 0),
    "504": (Fault(status=504), "model_timeout", 3, 0),
    "200 with HTML": (Fault(html=True, status=200), "model_unavailable", 3, 0),
    "reset once": (Fault(first=1, reset=True), None, 2, 1),
    "reset": (Fault(reset=True), "model_unavailable", 3, 0),
    "no answer": (Fault(hang=True), "model_timeout", 2, 0),
    "malformed once": (Fault(first=1, answer="malformed"), None, 2, 2),
    "malformed": (Fault(answer="malformed"), "answer_not_json", 2, 2),
    "wrong schema once": (Fault(first=1, answer="wrong_schema"), None, 2, 2),
    "wrong schema": (Fault(answer="wrong_schema"), "schema_invalid", 2, 2),
    "fenced": (Fault(answer="fenced"), None, 1, 1),
    "truncated once": (Fault(first=1, answer="truncated"), None, 2, 2),
    "truncated": (Fault(answer="truncated"), "model_truncated", 2, 2),
    "empty once": (Fault(first=1, answer="empty"), None, 2, 2),
    "empty": (Fault(answer="empty"), "model_empty", 2, 2),
    "no candidates": (Fault(answer="no_candidates"), "model_empty", 2, 2),
    "blocked": (Fault(finish_reason="SAFETY"), "model_blocked", 1, 1),
    "refused": (Fault(block_reason="OTHER"), "model_blocked", 1, 1),
    "unknown finish reason": (Fault(finish_reason="BORED"), "model_stopped", 2, 2),
}


@pytest.fixture(scope="module")
def services():
    with FakeGemini() as gemini, FakeOpenAI() as chat:
        for service in (gemini, chat):
            service.service.answer = lambda body, schema: {"n": 1}
        yield {
            "gemini": (gemini, GeminiProvider(ModelSettings(model=MODEL, base_url=gemini.base_url), 1.0)),
            "openai": (chat, OpenAIProvider(ModelSettings(model="openai:tiny", base_url=chat.base_url))),
        }


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["gemini", "openai"])
def test_fault_has_one_meaning_for_all_providers(services, monkeypatch, kind, name):
    monkeypatch.setenv("GEMINI_API_KEY", "made-up")
    service, provider = services[kind]
    fault, code, sent, paid = CASES[name]
    service.service.clear()
    fault.hits = 0
    service.set_faults(fault)
    deadline_s = 0.3 if fault.hang else 20
    calls = CallSettings(max_attempts=2 if fault.hang else 3, max_calls_per_second=1000, deadline_s=deadline_s, max_outage_s=0)
    (outcome,), records = call_provider(provider, [build_request()], calls=calls)
    if code is None:
        assert outcome.metadata == {"n": 1}
    else:
        assert outcome.code == code
    assert len(records) == len(service.ledger.calls()) == sent
    assert sum(record.total_tokens > 0 for record in records) == paid
    assert all(record.model == provider.name for record in records)
