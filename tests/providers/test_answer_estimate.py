"""The estimated length of answers and thoughts."""

import json

import pytest

from promptreel.providers.answer_estimate import answer_tokens, thought_tokens
from promptreel.schemas.settings import ModelSettings
from promptreel.schemas.spread import Spread
from tests.fake_gemini.answers import answer_for
from tests.fake_gemini.tokens import text_tokens
from tests.prompts import NESTED

LIMIT = 8192


def with_field(schema, required=True):
    names = ["x"] if required else []
    return {"type": "object", "properties": {"x": schema}, "required": names}


@pytest.mark.parametrize(
    "schema",
    [
        {"const": "fixed"},
        {"enum": ["a", "longer", "the longest of all"]},
        {"type": "string"},
        {"type": "string", "maxLength": 5},
        {"type": "string", "minLength": 300},
        {"type": "string", "format": "date"},
        {"type": ["integer", "null"]},
        {"type": "boolean"},
        {"type": "array", "items": {"type": "number"}},
        {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 3},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "object"},
        with_field({"type": "string"}, required=False),
    ],
    ids=str,
)
def test_answers_of_a_schema_are_within_its_spread(schema):
    spread = answer_tokens(with_field(schema), LIMIT)
    assert 0 < spread.low <= spread.expected <= spread.high
    for seed in map(str, range(20)):
        tokens = text_tokens(json.dumps(answer_for(with_field(schema), seed, words=(3, 12))))
        assert spread.low - 1 <= tokens <= spread.high + 1


def test_references_and_nested_lists_are_followed():
    shared = {"type": "array", "items": {"$ref": "#/$defs/name"}, "minItems": 2, "maxItems": 2}
    schema = {**with_field(shared), "$defs": {"name": {"const": "0123456789"}}}
    spread = answer_tokens(schema, LIMIT)
    assert spread.low == spread.high
    nested = answer_tokens(NESTED.json_schema, LIMIT)
    assert nested.low < nested.expected < nested.high


def test_answers_are_not_longer_than_their_token_limit():
    assert answer_tokens(NESTED.json_schema, 100).high == 100


@pytest.mark.parametrize(
    ("settings", "thoughts"),
    [
        ({"model": "gemini-2.5-flash-lite", "thinking_budget": 0}, Spread(0, 0, 0)),
        ({"model": "gemini-2.5-flash-lite", "thinking_budget": 400}, Spread(0, 200, 400)),
        ({"model": "gemini-2.5-flash-lite", "thinking_budget": 400, "max_output_tokens": 100}, Spread(0, 100, 100)),
        ({"model": "gemini-3.5-flash-lite"}, Spread(0, 0, 100)),
        ({"model": "openai:local"}, Spread(0, 0, 100)),
    ],
    ids=str,
)
def test_thoughts_follow_the_settings(settings, thoughts):
    assert thought_tokens(ModelSettings(**settings)) == thoughts


def test_more_thinking_costs_more():
    levels = ("minimal", "low", "medium", "high")
    expected = [thought_tokens(ModelSettings("gemini-3.8-flash", thinking_level=level)).expected for level in levels]
    assert expected == sorted(set(expected))
    assert thought_tokens(ModelSettings("gemini-3.8-flash")).expected > 0
