"""Keys of a value in the order of its schema."""

import json

import pytest

from promptreel.schemas.key_order import in_schema_order, ordered_json

PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
UNORDERED = {"age": 1, "name": "Ada"}
ORDERED = {"name": "Ada", "age": 1}


@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        {"$ref": "#/$defs/person"},
        {"anyOf": [{"type": "null"}, PERSON]},
        {"oneOf": [{"properties": {"age": {}}}, PERSON], "properties": {"name": {}}},
        {"allOf": [{"$ref": "#/$defs/person"}]},
    ],
    ids=["object", "reference", "nullable", "union", "all of"],
)
@pytest.mark.parametrize(
    ("wrap", "enclose"),
    [
        (lambda schema: {"properties": {"x": schema}}, lambda value: {"x": value}),
        (lambda schema: {"properties": {"x": {"items": schema}}}, lambda value: {"x": [value]}),
        (lambda schema: {"properties": {"x": {"prefixItems": [{}, schema]}}}, lambda value: {"x": [1, value]}),
        (lambda schema: {"additionalProperties": schema}, lambda value: {"y": value}),
    ],
    ids=["property", "items", "tuple", "dictionary"],
)
def test_nested_objects_have_their_keys_in_schema_order(schema, wrap, enclose):
    root = {**wrap(schema), "$defs": {"person": PERSON}}
    assert ordered_json(enclose(UNORDERED), root) == json.dumps(enclose(ORDERED), separators=(",", ":"))


def test_a_recursive_schema_orders_all_levels():
    root = {"properties": {"title": {}, "children": {"items": {"$ref": "#"}}}}
    value = {"children": [{"children": [], "title": "b"}], "title": "a"}
    assert list(in_schema_order(value, root, root)) == ["title", "children"]
    assert ordered_json(value, root) == '{"title":"a","children":[{"title":"b","children":[]}]}'


def test_keys_that_the_schema_does_not_name_follow_in_their_own_order():
    root = {"properties": {"b": {}}}
    assert ordered_json({"z": 1, "a": 2, "b": "ü"}, root) == '{"b":"ü","z":1,"a":2}'


def test_values_are_not_changed():
    root = {"properties": {"x": PERSON}}
    for value in ({"x": None}, {"x": [1, 2.5, "a", True]}, {}, {"x": "text"}):
        assert json.loads(ordered_json(value, root)) == value
