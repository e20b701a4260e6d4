"""The top-level fields of a schema: their definitions, and schemas of some of them."""

import copy

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from promptreel.providers.key_material import schema_material
from promptreel.providers.schema_fields import field_definitions, schema_of_fields
from promptreel.schemas.prompt import check_json_schema
from promptreel.schemas.validation import validator_of
from tests.brought_schemas import cases
from tests.prompts import NESTED

TEXT = {"type": "string"}
PERSON = {"type": "object", "properties": {"name": TEXT, "home": {"$ref": "#/$defs/place"}}, "required": ["name"]}
PLACE = {"type": "object", "properties": {"town": TEXT}}


def schema_of(properties, **more):
    return {"type": "object", "properties": properties, **more}


REFERRING = schema_of(
    {"who": {"$ref": "#/$defs/person"}, "where": {"$ref": "#/$defs/place"}, "note": TEXT},
    required=["who", "note"],
    **{"$defs": {"person": PERSON, "place": PLACE, "unused": TEXT}},
)


def changed(schema, change):
    schema = copy.deepcopy(schema)
    change(schema)
    return schema


def test_annotations_order_and_required_do_not_change_a_definition():
    schema = NESTED.json_schema
    described = changed(schema, lambda part: part["properties"]["scene"].update(description="where", title="Scene"))
    reordered = {**described, "properties": dict(reversed(described["properties"].items())), "required": []}
    assert field_definitions(reordered) == field_definitions(schema)


def test_a_change_anywhere_below_a_field_changes_only_its_definition():
    wider = changed(NESTED.json_schema, lambda part: part["properties"]["scene"].update(required=[]))
    before, after = field_definitions(NESTED.json_schema), field_definitions(wider)
    assert [name for name in before if before[name] != after[name]] == ["scene"]


def test_a_changed_nested_definition_changes_the_fields_that_reach_it():
    wider = changed(REFERRING, lambda part: part["$defs"]["place"]["properties"].update(zip=TEXT))
    before, after = field_definitions(REFERRING), field_definitions(wider)
    assert [name for name in before if before[name] != after[name]] == ["who", "where"]


def test_renamed_definition_is_the_same_definition():
    renamed = schema_of({"who": {"$ref": "#/definitions/human"}}, definitions={"human": PERSON, "ignored": TEXT})
    renamed["$defs"] = {"place": PLACE}
    assert field_definitions(renamed) == {"who": field_definitions(REFERRING)["who"]}


@pytest.mark.parametrize(
    "more",
    [
        {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"dependentRequired": {"a": ["b"]}},
        {"if": {"required": ["a"]}, "then": {"required": ["b"]}},
        {"minProperties": 1},
        {"additionalProperties": True},
        {"additionalProperties": TEXT},
        {"unevaluatedProperties": False},
        {"properties": {}},
        {"properties": {"a": TEXT, "b": {"$ref": "#/properties/a"}}},
        {"type": ["object", "null"]},
    ],
    ids=lambda more: next(iter(more)),
)
def test_fields_that_depend_on_each_other_have_no_definitions(more):
    assert field_definitions({**schema_of({"a": TEXT, "b": TEXT}), **more}) is None


def test_reduced_schema_has_the_definitions_that_its_fields_reach():
    assert schema_of_fields(REFERRING, {"where"}) == schema_of(
        {"where": {"$ref": "#/$defs/place"}}, required=[], **{"$defs": {"place": PLACE}}
    )
    assert set(schema_of_fields(REFERRING, {"who"})["$defs"]) == {"person", "place"}
    assert "$defs" not in schema_of_fields(REFERRING, {"note"})


def test_reduced_schema_retains_descriptions_but_no_examples_of_complete_answers():
    described = {**REFERRING, "description": "all", "examples": [{"note": "x"}], "additionalProperties": False}
    reduced = schema_of_fields(described, {"note"})
    assert reduced == schema_of({"note": TEXT}, required=["note"], description="all", additionalProperties=False)


_LEAVES = st.sampled_from([TEXT, {"type": "integer"}, {"enum": ["x", "y"]}, {"$ref": "#/$defs/one"}])
_PARTS = st.one_of(
    _LEAVES,
    st.builds(lambda part: {"type": "array", "items": part}, _LEAVES),
    st.builds(lambda part: schema_of({"title": part, "$ref": TEXT}), _LEAVES),
)
_DEFINITIONS = st.fixed_dictionaries({"one": st.sampled_from([TEXT, {"$ref": "#/$defs/two"}]), "two": _LEAVES})
_NAMES = st.sampled_from(["a", "b", "title", "required", "$ref", "properties"])


def is_finite(definitions):
    return "$ref" not in definitions["two"]


_SCHEMAS = st.builds(
    lambda properties, required, definitions: schema_of(
        properties, required=[name for name in properties if name in required], **{"$defs": definitions}
    ),
    st.dictionaries(_NAMES, _PARTS, min_size=1),
    st.sets(_NAMES),
    _DEFINITIONS.filter(is_finite),
)


def expanded(part, root):
    """Replace each reference by its target: the oracle of equal definitions."""
    if list(part) == ["$ref"] and isinstance(part["$ref"], str):
        return expanded(root["$defs"][part["$ref"].removeprefix("#/$defs/")], root)
    found = dict(part)
    if "items" in found:
        found["items"] = expanded(found["items"], root)
    if "properties" in found:
        found["properties"] = {name: expanded(below, root) for name, below in found["properties"].items()}
    return found


@settings(max_examples=300, deadline=None)
@given(_SCHEMAS, _SCHEMAS)
def test_equal_definitions_accept_the_same_values(one, other):
    """Hashes are equal at most if the expanded definitions are; names and targets of references may differ."""
    first, second = field_definitions(one), field_definitions(other)
    for name in first.keys() & second.keys():
        definitions = expanded(one["properties"][name], one), expanded(other["properties"][name], other)
        if first[name] == second[name]:
            assert definitions[0] == definitions[1]
        if one["properties"][name] == other["properties"][name] and one["$defs"] == other["$defs"]:
            assert first[name] == second[name]


_VALUES = st.dictionaries(
    _NAMES,
    st.one_of(st.text(max_size=2), st.integers(), st.just("x"), st.lists(st.just("x")), st.just({"title": "x"})),
)


@settings(max_examples=300, deadline=None)
@given(_SCHEMAS, st.sets(_NAMES), _VALUES)
def test_parts_that_fit_their_schemas_make_an_answer_that_fits(schema, names, value):
    check_json_schema(schema, "schema")
    chosen = names & set(schema["properties"])
    rest = set(schema["properties"]) - chosen
    halves = [{name: part for name, part in value.items() if name in side} for side in (chosen, rest)]
    fits = [
        validator_of(schema_of_fields(schema, side)).is_valid(half)
        for side, half in zip((chosen, rest), halves, strict=True)
    ]
    known = halves[0] | halves[1]
    assert validator_of(schema).is_valid(known) == all(fits)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.data())
def test_fields_of_brought_schemas_retain_their_definitions_alone(case, data):
    """A stored schema has the key of the original, and a reduced one is accepted, with unchanged definitions."""
    schema = check_json_schema(case.schema, "schema")
    material = schema_material(schema)
    assert schema_material(check_json_schema(material, "schema")) == material
    definitions = field_definitions(schema)
    assert field_definitions(material) == definitions
    if definitions is not None:
        names = data.draw(st.sets(st.sampled_from(sorted(definitions)), min_size=1))
        reduced = schema_of_fields(schema, names)
        assert check_json_schema(reduced, "reduced") == reduced
        assert field_definitions(reduced) == {name: definitions[name] for name in definitions if name in names}
