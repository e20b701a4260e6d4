"""The answers of the Gemini service: blocked, empty, truncated, malformed or valid."""

import json
import random
from collections import Counter

import pytest

from promptreel.providers.answers import AnswerFailed
from promptreel.schemas.errors import ModelError
from tests.analysed_media import segment_of
from tests.fake_gemini import Fault
from tests.prompts import NESTED
from tests.providers.gemini_calls import answer_with, build_request, call_all, call_model

BLOCKING = (
    "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT "
    "IMAGE_RECITATION"
).split()
STOPPING = "OTHER MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL NO_IMAGE IMAGE_OTHER A_REASON_OF_TOMORROW".split()


@pytest.mark.parametrize("reason", BLOCKING)
def test_blocked_answer_is_final(service, reason):
    service.set_faults(Fault(finish_reason=reason))
    failure, (call,) = call_model(service)
    assert (failure.code, failure.retryable) == ("model_blocked", False)
    assert reason in failure.message
    assert (call.status, call.finish_reason) == ("error", reason)
    assert len(service.ledger.calls()) == 1


@pytest.mark.parametrize("reason", STOPPING)
@pytest.mark.filterwarnings("ignore:.*is not a valid FinishReason:UserWarning")
def test_any_other_finish_reason_is_retried_once(service, reason):
    service.set_faults(Fault(finish_reason=reason))
    failure, calls = call_model(service)
    assert (failure.code, failure.retryable) == ("model_stopped", True)
    assert reason in failure.message
    assert [call.finish_reason for call in calls] == [reason] * 2
    assert len(service.ledger.calls()) == 2


@pytest.mark.filterwarnings("ignore:.*is not a valid BlockedReason:UserWarning")
@pytest.mark.parametrize("reason", ["SAFETY", "PROHIBITED_CONTENT", "A_REASON_OF_TOMORROW"])
def test_blocked_prompt_is_final(service, reason):
    service.set_faults(Fault(block_reason=reason))
    failure, (call,) = call_model(service)
    assert (failure.code, failure.retryable) == ("model_blocked", False)
    assert call.finish_reason == reason
    assert call.input_tokens > 0


@pytest.mark.parametrize("answer", ["empty", "no_candidates"])
def test_empty_answer_is_retried_once(service, answer):
    service.set_faults(Fault(answer=answer))
    failure, calls = call_model(service)
    assert (failure.code, failure.retryable) == ("model_empty", True)
    assert len(calls) == len(service.ledger.calls()) == 2
    service.set_faults(Fault(answer=answer, first=1))
    assert call_model(service)[0].metadata == {"n": 1}


def test_fenced_answer_is_parsed(service):
    service.set_faults(Fault(answer="fenced"))
    answer, calls = call_model(service)
    assert answer.metadata == {"n": 1}
    assert len(calls) == 1


def test_truncated_answer_is_retried_once_with_a_larger_budget(service):
    service.set_faults(Fault(answer="truncated"))
    failure, calls = call_model(service, max_output_tokens=100)
    assert (failure.code, failure.retryable) == ("model_truncated", False)
    assert failure.answer
    assert [body["generationConfig"].pop("maxOutputTokens") for body in service.bodies] == [100, 400]
    assert service.bodies[0] == service.bodies[1]
    assert [call.finish_reason for call in calls] == ["MAX_TOKENS"] * 2
    service.set_faults()
    answer_with(service, {"n": 1, "words": "x" * 1000})  # just over 250 tokens
    answer, calls = call_model(service, max_output_tokens=100)
    assert answer.metadata["n"] == 1
    assert [call.status for call in calls] == ["error", "success"]


def test_larger_budget_stays_within_the_limit_of_the_service(service):
    service.set_faults(Fault(answer="truncated", first=1))
    answer, calls = call_model(service, max_output_tokens=60_000)
    assert answer.metadata == {"n": 1}
    assert [body["generationConfig"]["maxOutputTokens"] for body in service.bodies] == [60_000, 65_536]
    assert [call.code for call in calls] == ["model_truncated", None]


def test_answer_without_media_tokens_is_retried_once(service, film):
    request = build_request(segment_of(film, 0, 2))
    service.set_faults(Fault(no_media_tokens=True))
    failure, calls = call_model(service, request)
    assert (failure.code, failure.answer) == ("media_not_seen", '{"n": 1}')
    assert len(calls) == len(service.ledger.calls()) == 2
    assert service.bodies[0] == service.bodies[1]
    service.set_faults(Fault(no_media_tokens=True, first=1))
    assert call_model(service, request)[0].metadata == {"n": 1}


def storable_answer(rng):
    return {
        "summary": rng.choice(["a", "", "é漢😀", "line\nline", "\u2028"]),
        "scene": {"location": "dock", "people_count": rng.randrange(-5, 2**63)},
        "products": [{"name": f"p{n}", "price": rng.uniform(-1e300, 1e300)} for n in range(rng.randrange(4))],
    }


GOOD_FORMS = {
    "plain": lambda text, rng: text,
    "padded": lambda text, rng: f"\n\t {text} \r\n",
    "fenced": lambda text, rng: f"```json\n{text}\n```",
    "fenced without a language": lambda text, rng: f"```\n{text}\n```",
    "additional fields": lambda text, rng: text[:-1] + ', "more": [null, {"x": []}]}',
    "half a surrogate pair": lambda text, rng: text[:-1] + ', "more": "x\\ud83dy"}',
    "a repeated field": lambda text, rng: text[:-1] + ', "summary": "last one counts"}',
    "numbers as floats": lambda text, rng: text[:-1] + ', "start_time": 1e3}',
    "prose before": lambda text, rng: f"Here it is: {text}",
    "prose after": lambda text, rng: f"{text}\nI hope that helps.",
    "two objects": lambda text, rng: text + text,
    "single quotes": lambda text, rng: text.replace('"', "'"),
    "a trailing comma": lambda text, rng: text[:-1] + ",}",
    "a comment": lambda text, rng: text[:-1] + "} // done",
    "a list": lambda text, rng: f"[{text}]",
    "control characters": lambda text, rng: text.replace("dock", "do\x00ck"),
}
BAD_FORMS = {
    "truncated": lambda text, rng: text[: rng.randrange(1, len(text))],
    "not a number": lambda text, rng: text[:-1] + f', "start_time": {rng.choice(["NaN", "Infinity", "-Infinity"])}}}',
    "beyond floating point": lambda text, rng: text[:-1] + ', "start_time": 1e999}',
    "beyond 64 bits": lambda text, rng: (
        text[:-1] + f', "extra": {{"n": {rng.choice([2**63, -(2**63) - 1, 10**400])}}}}}'
    ),
    "beyond Python's digit limit": lambda text, rng: text[:-1] + ', "start_time": ' + "9" * 5000 + "}",
    "deep lists": lambda text, rng: text[:-1] + ', "extra": {"n": ' + "[" * 700 + "]" * 700 + "}}",
    "deep objects": lambda text, rng: text[:-1] + ', "extra": ' + '{"n":' * 400 + "1" + "}" * 400 + "}",
    "unclosed lists": lambda text, rng: "[" * rng.randrange(2_000, 50_000),
    "null": lambda text, rng: "null",
    "a string": lambda text, rng: json.dumps(text),
    "an empty object": lambda text, rng: "{}",
    "a missing field": lambda text, rng: text.replace('"summary"', '"sumary"'),
    "null instead of a string": lambda text, rng: text[:-1] + ', "summary": null}',
    "a string instead of a number": lambda text, rng: text[:-1] + ', "start_time": "1.5"}',
    "a list instead of an object": lambda text, rng: text[:-1] + ', "scene": []}',
    "a product without a name": lambda text, rng: text[:-1] + ', "products": [{"price": 1}]}',
    "an HTML page": lambda text, rng: "<html><body>502</body></html>",
}


def corpus(count, seed):
    """Return [(form, text, is_good)], generated from a seed."""
    rng = random.Random(seed)
    forms = [(name, render, True) for name, render in GOOD_FORMS.items()]
    forms += [(name, render, False) for name, render in BAD_FORMS.items()]
    chosen = [forms[number % len(forms)] for number in range(count)]
    return [(name, render(json.dumps(storable_answer(rng)), rng), is_good) for name, render, is_good in chosen]


def test_200_answers_are_checked_or_fail_with_their_text(service):
    answers = corpus(200, seed=11)
    answer_with(service, lambda text: answers[int(text.split()[1])][1])
    requests = [build_request(text=f"case {number} .", schema=NESTED.json_schema) for number in range(200)]
    outcomes, _ = call_all(service.base_url, requests, max_output_tokens=65_536)
    call_counts = Counter(int(entry.text.split("case ")[1].split()[0]) for entry in service.ledger.calls())
    for number, ((form, text, is_good), outcome) in enumerate(zip(answers, outcomes, strict=True)):
        if is_good:
            assert not isinstance(outcome, Exception), (form, text, outcome)
            assert outcome.text == text
            json.dumps(outcome.metadata, allow_nan=False, ensure_ascii=False).encode()
        else:
            assert isinstance(outcome, AnswerFailed), (form, text, outcome)
            assert outcome.code in ("answer_not_json", "schema_invalid"), (form, outcome.code)
            assert outcome.answer == text, form
        assert call_counts[number] == (1 if is_good else 2), form


def test_two_kinds_of_bad_answers_share_one_repair(service):
    answers = iter(["no JSON", '{"n": "x"}', '{"n": 3}'])
    answer_with(service, lambda text: next(answers))
    failure, calls = call_model(service)
    assert (failure.code, failure.answer) == ("schema_invalid", '{"n": "x"}')
    assert len(calls) == len(service.ledger.calls()) == 2


def test_half_a_surrogate_pair_in_the_text_is_handled(service):
    answer_with(service, '{"n": 1, "more": "\ud83d"}')
    outcome, calls = call_model(service)
    if isinstance(outcome, Exception):
        assert isinstance(outcome, ModelError), outcome
    else:
        assert outcome.metadata == {"n": 1, "more": "\ufffd"}
    for call in calls:
        json.dumps(call.response_text, ensure_ascii=False).encode()
