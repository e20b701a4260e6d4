"""Parsing and checking of answers: invalid answers, and the second try."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreel.providers.answers import AnswerFailed, check_answer, generate_checked, parse_answer
from promptreel.providers.base import ModelAnswer, ModelRequest, SegmentInput, Usage
from promptreel.providers.extraction import to_item_times
from promptreel.schemas.media import TimeSpan
from tests.models import REQUEST, SUBJECT, ScriptedModel, policy_for, tally
from tests.prompts import NESTED
from tests.virtual_time import run_virtual

TRUNCATED = ModelAnswer('{"n": 1', "MAX_TOKENS", failure=("model_truncated", "cut"))


def generate(*script):
    """Generate an answer; return (checked answer or failure, requests made)."""
    model = ScriptedModel(*script)

    async def scenario():
        try:
            return await generate_checked(model, policy_for(model), REQUEST, SUBJECT, tally())
        except AnswerFailed as failure:
            return failure

    return run_virtual(scenario()), model.requests


@pytest.mark.parametrize(
    "text",
    ['{"n": 1}', ' \n{"n": 1}\n', '```json\n{"n": 1}\n```', '```\n{"n": 1}```', '{"n": 1.0}'],
)
def test_answer_is_parsed_with_or_without_a_fence(text):
    answer, requests = generate(text)
    assert answer.metadata == {"n": 1}
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "model_empty"),
        ("  \n", "model_empty"),
        ("I cannot answer.", "answer_not_json"),
        ('{"n": 1', "answer_not_json"),
        ('{"n": NaN}', "answer_not_json"),
        ('{"n": 1e999}', "schema_invalid"),
        ("[" * 100_000, "answer_not_json"),
        ('{"n": ' + "9" * 5000 + "}", "answer_not_json"),
        ("[1]", "schema_invalid"),
        ('"n"', "schema_invalid"),
        ("null", "schema_invalid"),
        ("{}", "schema_invalid"),
        ('{"n": "1"}', "schema_invalid"),
        ('{"n": null}', "schema_invalid"),
        ("<html><body>502</body></html>", "answer_not_json"),
    ],
)
def test_invalid_answer_is_retried_once_then_fails_with_its_text(text, code):
    failure, requests = generate(text)
    assert failure.code == code
    assert failure.retryable
    assert len(requests) == 2
    assert failure.answer == (text if text.strip() else None)
    repaired, requests = generate(text, {"n": 3})
    assert repaired.metadata == {"n": 3}
    if code in ("answer_not_json", "schema_invalid"):
        assert requests[1].text.startswith(REQUEST.text)
        assert len(requests[1].text) < len(REQUEST.text) + 1000


def test_failure_names_the_path_in_the_answer():
    bad = {"summary": "x", "scene": {"location": "y"}, "products": [{"name": "a"}, {"name": 5}]}
    request = ModelRequest("metadata_extraction", "", "", NESTED.json_schema)
    with pytest.raises(AnswerFailed, match=r"at products\[1\]\.name: 5 is not of type 'string'"):
        check_answer(ModelAnswer(json.dumps(bad)), request)


def test_truncated_answer_is_retried_with_a_larger_budget():
    failure, requests = generate(TRUNCATED)
    assert (failure.code, failure.retryable) == ("model_truncated", False)
    assert [request.output_token_factor for request in requests] == [1, 4]
    assert {request.text for request in requests} == {REQUEST.text}


def test_blocked_content_is_final():
    failure, requests = generate(ModelAnswer("", "SAFETY", failure=("model_blocked", "SAFETY")))
    assert (failure.code, failure.retryable, len(requests)) == ("model_blocked", False, 1)


def test_answer_without_media_tokens_is_rejected(tmp_path):
    media = SegmentInput("video", tmp_path, TimeSpan(0, 1), (), None, "k", 1, ())
    request = ModelRequest("metadata_extraction", "", "", REQUEST.json_schema, media)
    unseen = ModelAnswer('{"n": 1}', "STOP", Usage(text_tokens=9, media_reported=True))
    with pytest.raises(AnswerFailed, match="did not see the media"):
        check_answer(unseen, request)
    seen = ModelAnswer('{"n": 1}', "STOP", Usage(text_tokens=9, video_tokens=258, media_reported=True))
    assert check_answer(seen, request).metadata == {"n": 1}
    without_usage = ModelAnswer('{"n": 1}', "STOP", Usage())
    assert check_answer(without_usage, request).metadata == {"n": 1}


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    assert parse_answer('{"a": "x\\ud800y", "b": ["\\ud83d\\ude00"]}')[0] == {"a": "x\ufffdy", "b": ["😀"]}


@pytest.mark.parametrize(
    ("number", "is_valid"),
    [(2**63 - 1, True), (2**63, False), (-(2**63), True), (-(2**63) - 1, False), ("1e999", False)],
)
def test_nested_number_beyond_64_bits_is_rejected(number, is_valid):
    text = f'{{"a": [{{"b": {number}}}]}}'
    if is_valid:
        assert parse_answer(text) == ({"a": [{"b": number}]}, None)
    else:
        with pytest.raises(AnswerFailed, match="64") as caught:
            parse_answer(text)
        assert (caught.value.code, caught.value.answer) == ("schema_invalid", text)


@pytest.mark.parametrize("depth", [99, 101, 400, 900, 5000])
def test_answer_nested_too_deeply_is_rejected(depth):
    text = '{"a": ' + "[" * depth + "]" * depth + "}"
    if depth < 100:
        assert set(parse_answer(text)[0]) == {"a"}
    else:
        with pytest.raises(AnswerFailed) as caught:
            parse_answer(text)
        assert caught.value.answer == text


def test_two_bad_answers_of_different_kinds_share_one_repair():
    failure, requests = generate("no JSON", {"n": "x"}, {"n": 1})
    assert (failure.code, len(requests)) == ("schema_invalid", 2)


@given(st.text())
def test_any_text_is_an_object_or_a_failure(text):
    try:
        answer, _ = parse_answer(text)
    except AnswerFailed as failure:
        answer = failure.answer
    assert isinstance(answer, dict) or answer == text


@given(
    st.dictionaries(
        st.text(), st.integers(-(2**63), 2**63 - 1) | st.text() | st.floats(allow_nan=False, allow_infinity=False)
    )
)
def test_any_storable_object_is_parsed_unchanged(value):
    parsed, repair = parse_answer(json.dumps(value))
    assert (parsed, repair) == (value, None)
    assert all(not isinstance(part, float) or math.isfinite(part) for part in parsed.values())


def test_media_times_become_item_times_with_a_warning_outside(tmp_path):
    media = SegmentInput("video", tmp_path, TimeSpan(10_000_000, 20_000_000), (), None, "k", 60_000_000, ())
    answer = {
        "summary": "s",
        "products": [{"name": "a", "first_seen": 2.5}, {"name": "b"}, {"name": "c", "first_seen": 99}],
    }
    converted, warning = to_item_times(answer, NESTED.json_schema, media)
    assert [product.get("first_seen") for product in converted["products"]] == [12.5, None, 109]
    assert warning == "times outside the segment's 10 s: products[].first_seen=99"
    assert answer["products"][0]["first_seen"] == 2.5
    assert to_item_times({"summary": "s"}, NESTED.json_schema, media) == ({"summary": "s"}, None)
