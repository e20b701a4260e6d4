"""Field paths: leaves, their types and values, and rejected schemas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreel.schemas.errors import PromptError
from promptreel.schemas.field_paths import leaf_fields, parse_schema, render_text, values_at


def obj(**properties):
    return {"type": "object", "properties": properties}


SCHEMA = {
    **obj(
        title={"type": "string"},
        scene=obj(location={"type": ["string", "null"]}, indoor={"type": "boolean"}),
        people={
            "type": "array",
            "items": obj(name={"type": "string"}, tags={"type": "array", "items": {"type": "string"}}),
        },
        scores={"type": "array", "items": {"type": "number"}},
        grid={"type": "array", "items": {"type": "array", "items": obj(x={"type": "integer"})}},
        mood={"enum": ["calm", "tense"]},
        extra={"type": "object"},
        linked={"$ref": "#/$defs/address"},
        maybe={"anyOf": [{"type": "integer"}, {"type": "null"}]},
    ),
    "$defs": {"address": obj(city={"type": "string"})},
}


def test_leaves_have_path_type_and_list_depth():
    leaves = {leaf.path: (leaf.type, leaf.list_depth) for leaf in leaf_fields(parse_schema(SCHEMA))}
    assert leaves == {
        "title": ("string", 0),
        "scene.location": ("string", 0),
        "scene.indoor": ("boolean", 0),
        "people[].name": ("string", 1),
        "people[].tags": ("string", 2),
        "scores": ("number", 1),
        "grid[].x": ("integer", 2),
        "mood": ("string", 0),
        "extra": ("json", 0),
        "linked.city": ("string", 0),
        "maybe": ("integer", 0),
    }


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ([], "must be a JSON object"),
        ({"type": "array"}, 'must have "type": "object"'),
        (obj(mood={"type": "text"}), "field 'mood' has the unknown type 'text'"),
        (obj(scene=obj(mood={"type": ["string", "txt"]})), "field 'scene.mood' has the unknown type 'txt'"),
        (obj(transcription={"type": "string"}), "'transcription' is reserved"),
        (obj(metadata_text={"type": "string"}), "'metadata_text' is reserved"),
        (obj(a=obj(_hidden={"type": "string"})), "'_hidden' is reserved"),
        (obj(**{"a.b": {"type": "string"}}), "must not be blank or contain"),
        (obj(**{"a[0]": {"type": "string"}}), "must not be blank or contain"),
        (obj(**{" ": {"type": "string"}}), "must not be blank or contain"),
        (obj(a={"$ref": "#/$defs/none"}), "points to nothing"),
        (obj(a={"$ref": "other.json"}), "is not local"),
        ({**obj(a={"$ref": "#/$defs/a"}), "$defs": {"a": {"$ref": "#/$defs/a"}}}, "is circular"),
        (obj(a="string"), "is 'string'; it must be a schema object"),
    ],
)
def test_invalid_schema_is_rejected_by_name(schema, message):
    with pytest.raises(PromptError, match="json_schema") as raised:
        parse_schema(schema)
    assert message in str(raised.value)


def test_recursive_schema_is_rejected():
    schema = {**obj(a={"$ref": "#"})}
    with pytest.raises(PromptError, match=r"field 'a': .* is circular"):
        parse_schema(schema)


def test_reserved_root_name_is_allowed_below_the_root():
    assert [leaf.path for leaf in leaf_fields(parse_schema(obj(a=obj(transcription={"type": "string"}))))] == [
        "a.transcription"
    ]


def test_values_are_found_in_lists_despite_missing_keys():
    value = {"people": [{"name": "Ada", "tags": ["x", "y"]}, {}, {"name": None, "tags": []}, "odd"], "scene": None}
    assert values_at(value, "people[].name") == ["Ada"]
    assert values_at(value, "people[].tags") == ["x", "y"]
    assert values_at(value, "scene.location") == []


def test_text_has_one_line_per_leaf_with_value():
    leaves = leaf_fields(parse_schema(SCHEMA))
    text = render_text({"scores": [1, 2.5], "title": "a\n b", "scene": {"indoor": True}, "people": []}, leaves)
    assert text == "title: a b\nscene.indoor: true\nscores: 1, 2.5"


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_values_at_accepts_any_value(value):
    for leaf in leaf_fields(parse_schema(SCHEMA)):
        assert isinstance(values_at(value, leaf.path), list)
