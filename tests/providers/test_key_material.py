"""What of a prompt is part of an operation's key."""

import pytest

from promptreel.providers.key_material import schema_material, text_material

FIELD = {"type": "string", "minLength": 2}


@pytest.mark.parametrize("keyword", ["description", "title", "examples", "$comment"])
def test_annotations_are_removed_at_every_level(keyword):
    def schema(**extra):
        return {
            "type": "object",
            "properties": {"a": {**FIELD, **extra}, "b": {"type": "array", "items": {**FIELD, **extra}, **extra}},
            "$defs": {"c": {"anyOf": [{**FIELD, **extra}, {"type": "null", **extra}]}},
            "additionalProperties": {**FIELD, **extra},
            **extra,
        }

    assert schema_material(schema(**{keyword: "text"})) == schema()


@pytest.mark.parametrize("holder", ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"])
def test_field_with_the_name_of_an_annotation_is_retained(holder):
    schema = {"type": "object", holder: {"description": {**FIELD, "description": "x"}, "title": FIELD}}
    assert schema_material(schema) == {"type": "object", holder: {"description": FIELD, "title": FIELD}}


@pytest.mark.parametrize("keyword", ["enum", "const", "default", "required"])
def test_values_are_not_schemas(keyword):
    value = [{"description": "a value"}] if keyword != "required" else ["description", "title"]
    assert schema_material({"type": "object", keyword: value}) == {"type": "object", keyword: value}


def test_constraints_remain_part_of_the_key():
    assert schema_material(FIELD) == FIELD


@pytest.mark.parametrize(
    ("text", "material"),
    [("a", "a"), ("a ", "a"), ("a\t\r\nb  \n\n", "a\nb"), ("  a\n\n  b", "  a\n\n  b"), ("", "")],
)
def test_only_trailing_spaces_are_removed(text, material):
    assert text_material(text) == material
