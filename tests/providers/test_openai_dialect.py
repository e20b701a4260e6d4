"""What an OpenAI-compatible server supports, as learned from its messages."""

import pytest

from promptreel.providers.openai_dialect import Dialect, is_strict, response_format
from tests.models import SCHEMA

# Messages of real servers, in their own words.
MESSAGES = {
    "OpenAI, reasoning model": (
        Dialect(token_limit="max_tokens"),
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        Dialect(token_limit="max_completion_tokens"),
    ),
    "older server": (
        Dialect(),
        "Unrecognized request argument supplied: max_completion_tokens",
        Dialect(token_limit="max_tokens"),
    ),
    "OpenAI, fixed temperature": (
        Dialect(),
        "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
        Dialect(takes_temperature=False),
    ),
    "server without schemas": (
        Dialect(),
        "This response_format type is unavailable now",
        Dialect(structure="json_object"),
    ),
    "server without JSON mode": (
        Dialect(structure="json_object"),
        "'response_format.type' must be 'json_schema' or 'text'",
        Dialect(structure="prompt"),
    ),
    "effort": (Dialect(), "Unrecognized request argument supplied: reasoning_effort", Dialect(takes_effort=False)),
    "too long": (
        Dialect(token_limit="max_tokens"),
        "'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum context length is 4096 tokens.",
        None,
    ),
    "pictures": (Dialect(), "At most 1 image(s) may be provided in one prompt.", None),
    "nothing left": (Dialect(structure="prompt"), "response_format is not supported", None),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_rejection_leads_to_the_next_dialect(name):
    before, message, after = MESSAGES[name]
    assert before.after_rejection(message) == after


@pytest.mark.parametrize(
    ("structure", "text", "after"),
    [
        ("json_schema", '{"n": 1}', None),
        ("json_schema", "I see a street.", "prompt"),
        ("json_schema", '{"number": 1}', "json_object"),
        ("json_schema", "[1]", "json_object"),
        ("json_object", '{"number": 1}', None),
        ("json_object", "```json\n{}\n```", "prompt"),
        ("prompt", "I see a street.", None),
    ],
)
def test_ignored_structure_is_noticed(structure, text, after):
    found = Dialect(structure=structure).after_ignored_schema(text, SCHEMA)
    assert (found.structure if found else None) == after


def test_schema_is_strict_only_if_objects_are_closed_and_complete():
    closed = {**SCHEMA, "additionalProperties": False}
    assert is_strict(closed)
    assert not is_strict(SCHEMA)
    assert not is_strict({**closed, "required": []})
    nested = {"type": "object", "properties": {"a": {"anyOf": [closed, SCHEMA]}}, "required": ["a"]}
    assert not is_strict({**nested, "additionalProperties": False})
    assert response_format(Dialect(), closed)["json_schema"] == {"name": "answer", "schema": closed, "strict": True}
    assert response_format(Dialect(structure="prompt"), closed) is None
