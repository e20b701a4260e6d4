"""Schemas as people bring them: Google's dialect, pydantic, zod, unions, tuples and dictionaries become typed columns."""

import pytest

from promptreel.schemas.errors import PromptError
from promptreel.schemas.prompt import prompt_from_dict


def obj(**properties):
    return {"type": "object", "properties": properties}


def prompt_of(schema):
    return prompt_from_dict({"name": "any", "prompt_text": "Say what is seen.", "json_schema": schema})


TIME = {"type": "number", "format": "media-time"}
PERSON = obj(name={"type": "string"})
# schema -> (type, list depth) of each column
COLUMNS = {
    "nullable": (obj(a={"type": "string", "nullable": True}), {"a": ("string", 0)}),
    "upper-case types": (
        {"type": "OBJECT", "properties": {"a": {"type": "ARRAY", "items": {"type": "INTEGER", "nullable": True}}}},
        {"a": ("integer", 1)},
    ),
    "limits as text": (obj(a={"type": "ARRAY", "items": {"type": "STRING"}, "maxItems": "3"}), {"a": ("string", 1)}),
    "const": (obj(a={"const": "x"}, b={"const": 3}, c={"const": True}, d={"const": 0.5}),
              {"a": ("string", 0), "b": ("integer", 0), "c": ("boolean", 0), "d": ("number", 0)}),
    "enum": (obj(a={"enum": [1, 2]}, b={"enum": [True, None]}, c={"enum": [1, 1.5]}, d={"enum": [1, "x"]}),
             {"a": ("integer", 0), "b": ("boolean", 0), "c": ("number", 0), "d": ("json", 0)}),
    "object const": (obj(a={"const": {"x": 1}}), {"a": ("json", 0)}),
    "root $ref of pydantic": ({"$defs": {"M": obj(a=TIME)}, "$ref": "#/$defs/M"}, {"a": ("number", 0)}),
    "root $ref of zod": (
        {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/M",
         "definitions": {"M": {**obj(a={"type": "boolean"}), "additionalProperties": False}}},
        {"a": ("boolean", 0)},
    ),
    "root without type": ({"properties": {"a": {"type": "string"}}}, {"a": ("string", 0)}),
    "object without type": (obj(a={"properties": {"b": {"type": "string"}}}), {"a.b": ("string", 0)}),
    "int or string": (obj(a={"type": ["integer", "string"]}, b={"anyOf": [{"type": "integer"}, {"type": "string"}]}),
                      {"a": ("json", 0), "b": ("json", 0)}),
    "int or number": (obj(a={"type": ["integer", "number", "null"]}), {"a": ("number", 0)}),
    "literals": (obj(a={"anyOf": [{"const": "x"}, {"const": "y"}, {"type": "null"}]}), {"a": ("string", 0)}),
    "discriminated union": (
        obj(a={"oneOf": [obj(kind={"const": "x"}, at=TIME), obj(kind={"const": "y"})],
               "discriminator": {"propertyName": "kind"}}),
        {"a": ("json", 0)},
    ),
    "fields in a union beside fields": (
        obj(a={**obj(kind={"type": "string"}), "oneOf": [obj(x=TIME), obj(y={"type": "string"})]}), {"a": ("json", 0)}
    ),
    "union of required": (
        {**obj(a={"type": "string"}, b={"type": "string"}), "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"a": ("string", 0), "b": ("string", 0)},
    ),
    "list of unions": (obj(a={"type": "array", "items": {"type": ["integer", "string"]}}), {"a": ("json", 1)}),
    "tuple": (obj(a={"type": "array", "prefixItems": [{"type": "string"}], "items": TIME}), {"a": ("json", 0)}),
    "tuple of draft 7": (
        obj(a={"type": "array", "items": [{"type": "string"}, TIME], "additionalItems": False}), {"a": ("json", 0)}
    ),
    "dictionary": (obj(a={"type": "object", "additionalProperties": TIME}), {"a": ("json", 0)}),
    "dictionary beside fields": (obj(a={**PERSON, "additionalProperties": {"type": "number"}}), {"a": ("json", 0)}),
    "open object": (obj(a={**PERSON, "additionalProperties": True}), {"a.name": ("string", 0)}),
    "allOf with one member": (
        {**obj(a={"allOf": [{"$ref": "#/$defs/P"}], "description": "who"}), "$defs": {"P": PERSON}},
        {"a.name": ("string", 0)},
    ),
    "nullable allOf": (
        {**obj(a={"allOf": [{"$ref": "#/$defs/P"}], "nullable": True}), "$defs": {"P": PERSON}},
        {"a.name": ("string", 0)},
    ),
    "described $ref": ({**obj(a={"$ref": "#/$defs/P", "description": "who"}), "$defs": {"P": PERSON}},
                       {"a.name": ("string", 0)}),
    "whole seconds": (obj(a={"type": "integer", "format": "media-time"}), {"a": ("number", 0)}),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_schema_becomes_typed_columns(name):
    schema, columns = COLUMNS[name]
    assert {leaf.path: (leaf.type, leaf.list_depth) for leaf in prompt_of(schema).leaves} == columns


def test_dialects_are_stored_as_one():
    google = {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True, "enum": ["x"]}}}
    standard = {"type": "object", "properties": {"a": {"type": ["string", "null"], "enum": ["x", None]}}}
    assert prompt_of(google).json_schema == standard
    assert prompt_of(google).prompt_id == prompt_of(standard).prompt_id
    assert prompt_of(prompt_of(google).json_schema) == prompt_of(google)


def test_names_and_values_that_look_like_keywords_stay():
    schema = obj(
        nullable={"type": "string", "default": {"nullable": True}, "enum": ["STRING", "x"]},
        type={"type": "string"},
        items={"type": "array", "items": {"type": "string"}},
    )
    assert prompt_of(schema).json_schema == schema


def test_video_level_schema_is_read_the_same_way():
    definition = {
        "name": "any",
        "prompt_text": "Say what is seen.",
        "json_schema": obj(a={"type": "string"}),
        "video_level": {"instructions_text": "Sum up.", "json_schema": {"$ref": "#/$defs/M", "$defs": {"M": PERSON}}},
    }
    level = prompt_from_dict(definition).video_level
    assert [leaf.path for leaf in level.leaves] == ["name"]
    assert level.json_schema["properties"] == PERSON["properties"]


NODE = obj(name={"type": "string"}, kids={"type": "array", "items": {"$ref": "#/$defs/Node"}})
REJECTED = {
    "recursive root": ({"$ref": "#/$defs/Node", "$defs": {"Node": NODE}}, "field 'kids[]'", "circular"),
    "recursive field": ({**obj(tree={"$ref": "#/$defs/Node"}), "$defs": {"Node": NODE}}, "'tree.kids[]'", "circular"),
    "recursive to the root": (obj(a=obj(b={"$ref": "#"})), "field 'a.b'", "circular"),
    "recursive union": (
        {**obj(a={"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Node"}]}), "$defs": {"Node": NODE}},
        "'a.kids[]'",
        "circular",
    ),
    "recursive dictionary": (
        {**obj(a={"$ref": "#/$defs/D"}), "$defs": {"D": {"type": "object", "additionalProperties": {"$ref": "#/$defs/D"}}}},
        "'a.*'",
        "circular",
    ),
    "union at the root": ({"anyOf": [obj(a=TIME), obj(b=TIME)]}, "json_schema: ", "under a property"),
    "fields in a union at the root": (
        {**obj(a={"type": "string"}), "anyOf": [obj(b={"type": "string"})]}, "'b'", "properties"
    ),
    "dictionary beside fields at the root": (
        {**PERSON, "additionalProperties": {"type": "string"}}, "additionalProperties", "a property of its own"
    ),
    "array at the root": ({"type": "ARRAY", "items": {"type": "STRING"}}, "json_schema: ", "object"),
    "unknown type": (obj(a=obj(b={"type": "TYPE_UNSPECIFIED"})), "field 'a.b'", "TYPE_UNSPECIFIED"),
    "unclear nullable": (obj(a={"type": "string", "nullable": "yes"}), "field 'a'", "nullable"),
    "time as text": (obj(a={"type": "string", "format": "media-time"}), "field 'a'", "number"),
    "time as text in a union": (
        obj(a={"anyOf": [obj(at={"type": "string", "format": "media-time"}), {"type": "null"}, {"type": "integer"}]}),
        "field 'a.at'",
        "number",
    ),
    "time as text in a tuple": (
        obj(a={"type": "array", "prefixItems": [{"type": "string"}, {"format": "media-time"}]}), "field 'a[1]'", "number"
    ),
    "time as text in a dictionary": (
        obj(a={"type": "object", "additionalProperties": {"type": ["string", "number"], "format": "media-time"}}),
        "field 'a.*'",
        "number",
    ),
    "time under unevaluatedProperties": (
        obj(a={"type": "object", "unevaluatedProperties": TIME}), "field 'a.*'", "additionalProperties"
    ),
    "empty enum in a union": (
        obj(a={"anyOf": [{"type": "string"}, obj(b={"type": "string", "enum": []})]}), "field 'a.b'", "enum"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REJECTED)
def test_schema_without_columns_is_rejected_with_its_path(name):
    schema, *parts = REJECTED[name]
    with pytest.raises(PromptError) as raised:
        prompt_of(schema)
    for part in parts:
        assert part in str(raised.value)
