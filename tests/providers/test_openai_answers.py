"""Answers and errors of OpenAI-compatible servers, in the forms of real ones."""

import types

import pytest

from promptreel.providers.openai_answer import read_answer
from promptreel.schemas.errors import ModelError


def completion(**fields):
    return types.SimpleNamespace(**{"choices": None, "usage": None, "model": "tiny", **fields})


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        ({"code": 429, "message": "Provider is overloaded"}, "rate_limited", True),  # OpenRouter
        ({"code": 402, "message": "Insufficient credits"}, "quota_exhausted", True),
        ({"code": 400, "message": "no such option"}, "model_bad_request", False),
        ({"code": 502, "message": "Provider returned error"}, "model_unavailable", True),
        ({"code": "odd", "message": "Provider returned error"}, "model_unavailable", True),
        ("overloaded", "model_unavailable", True),
        (None, "model_unavailable", True),
    ],
)
def test_error_in_a_successful_response_has_its_own_code(error, code, retryable):
    with pytest.raises(ModelError) as caught:
        read_answer(completion(error=error), "tiny")
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert (error["message"] if isinstance(error, dict) else str(error)) in str(caught.value)


def test_text_may_be_a_list_of_parts():
    message = types.SimpleNamespace(content=[{"type": "text", "text": "{}"}, {"type": "text", "text": " "}])
    assert read_answer(completion(choices=[types.SimpleNamespace(message=message)]), "tiny").text == "{} "
