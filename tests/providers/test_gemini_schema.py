"""The response schema of a request: what the service reads."""

import pytest

from promptreel.providers.gemini_schema import wire_schema
from promptreel.schemas.prompt import check_json_schema
from promptreel.schemas.validation import validator_of


def obj(**properties):
    return {"type": "object", "properties": properties}


PERSON = obj(name={"type": "string"})
# schema, schema as it is sent
REWRITTEN = {
    "const": (obj(a={"const": "x"}), obj(a={"type": "string", "enum": ["x"]})),
    "allOf": (
        {**obj(a={"allOf": [{"$ref": "#/$defs/P"}], "description": "who"}), "$defs": {"P": PERSON}},
        {**obj(a={**PERSON, "description": "who"}), "$defs": {"P": PERSON}},
    ),
    "described $ref": (
        {**obj(a={"$ref": "#/$defs/P", "description": "who"}), "$defs": {"P": PERSON}},
        {**obj(a={**PERSON, "description": "who"}), "$defs": {"P": PERSON}},
    ),
    "nullable $ref": (
        {**obj(a={"allOf": [{"$ref": "#/$defs/P"}], "nullable": True}), "$defs": {"P": PERSON}},
        {**obj(a={"anyOf": [PERSON, {"type": "null"}]}), "$defs": {"P": PERSON}},
    ),
    "definitions": (
        {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/M",
         "definitions": {"M": obj(a={"$ref": "#/definitions/P"}), "P": PERSON}},
        {**obj(a={"$ref": "#/$defs/P"}), "$defs": {"M": obj(a={"$ref": "#/$defs/P"}), "P": PERSON}},
    ),
    "reference to a property": (obj(a=PERSON, b={"$ref": "#/properties/a"}), obj(a=PERSON, b=PERSON)),
    "closed tuple": (
        obj(a={"type": "array", "items": [{"type": "string"}, {"type": "integer"}], "additionalItems": False}),
        obj(a={"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "maxItems": 2}),
    ),
    "media-time": (
        obj(a={"type": "object", "additionalProperties": {"type": "number", "format": "media-time"}}),
        obj(a={"type": "object", "additionalProperties": {"type": "number"}}),
    ),
    "names of keywords": (
        obj(**{"$id": {"type": "string"}, "const": {"type": "string"}, "format": {"type": "string"}}),
        obj(**{"$id": {"type": "string"}, "const": {"type": "string"}, "format": {"type": "string"}}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REWRITTEN)
def test_schema_is_sent_in_the_subset_of_the_service(name):
    schema, sent = REWRITTEN[name]
    assert wire_schema(check_json_schema(schema, "json_schema")) == sent


def test_schema_that_is_sent_accepts_the_same_answers():
    schema = check_json_schema(REWRITTEN["nullable $ref"][0], "json_schema")
    for value in ({"a": None}, {"a": {"name": "x"}}, {"a": {"name": 1}}, {"a": 1}, {}):
        assert validator_of(wire_schema(schema)).is_valid(value) == validator_of(schema).is_valid(value)


def test_keywords_of_the_root_that_name_the_schema_are_dropped():
    assert wire_schema({**PERSON, "$id": "x", "$schema": "y"}) == PERSON
