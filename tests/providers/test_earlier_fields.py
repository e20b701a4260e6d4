"""Which fields earlier answers have, against an oracle that reads all of them."""

import json

import hypothesis.strategies as st
from hypothesis import given, settings

from promptreel.providers.answers import CheckedAnswer
from promptreel.providers.base import Usage
from promptreel.providers.earlier_fields import MAX_LOOK_UPS, FieldSearch, earlier_schemas
from promptreel.schemas.validation import validator_of

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
NAMES = "abcd"


def schema_of(properties, required=()):
    return {"type": "object", "properties": properties, "required": [name for name in properties if name in required]}


def stored(answer, run_id="run_1", **more):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    origin = {"llm_call_ids": [f"call_of_{run_id}"], "executed_at": f"at {run_id}", "model_version": None}
    return {"text": text, "run_id": run_id, **origin, **more}


def search(schema, answers):
    """Search earlier (schema, result) pairs, newest first."""
    found = FieldSearch(schema, earlier_schemas(schema, [earlier for earlier, _ in answers]))
    results = {id(earlier): result for earlier, result in answers}
    while (earlier := found.next()) is not None:
        if (result := results[id(earlier.json_schema)]) is not None:
            found.use(earlier, f"key of {result['run_id']}", result)
    return found


_PROPERTIES = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([TEXT, NUMBER]), min_size=1)
_SCHEMAS = st.builds(schema_of, _PROPERTIES, st.sets(st.sampled_from(NAMES)))
_ANSWERS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["x", "y", 1, 2]))
_EARLIER = st.lists(st.tuples(_SCHEMAS, st.one_of(st.none(), _ANSWERS, st.just("no JSON"))), max_size=MAX_LOOK_UPS)


def is_valid(value, definition):
    return isinstance(value, str if definition == TEXT else int)


@settings(max_examples=200, deadline=None)
@given(_SCHEMAS, _EARLIER)
def test_search_finds_exactly_the_fields_that_valid_answers_have(schema, pairs):
    answers = [
        (earlier, None if answer is None else stored(answer, f"run_{number}"))
        for number, (earlier, answer) in enumerate(pairs)
    ]
    found = search(schema, answers)
    options = {name: [] for name in schema["properties"]}
    for earlier, answer in pairs:
        for name, definition in schema["properties"].items():
            if isinstance(answer, dict) and earlier["properties"].get(name) == definition:
                if name in answer and is_valid(answer[name], definition):
                    options[name].append(answer[name])
                elif name not in answer and name not in schema["required"]:
                    options[name].append(None)
    covered = {name for name, values in options.items() if values}
    assert set(found.missing) == set(schema["properties"]) - covered
    assert all(found.values.get(name) in options[name] for name in covered)
    assert sorted(name for source in found.sources for name in source["fields"]) == sorted(covered)
    if not found.missing:
        merged = found.merged(None)
        assert merged == found.values
        assert validator_of(schema).is_valid(merged)


def test_schema_with_most_missing_fields_is_looked_up_first():
    few, many = schema_of({"a": TEXT}), schema_of({"a": TEXT, "b": TEXT})
    found = search(schema_of({"a": TEXT, "b": TEXT}), [(few, stored({"a": "x"})), (many, stored({"a": "y", "b": "z"}))])
    assert (found.values, len(found.used)) == ({"a": "y", "b": "z"}, 1)


def test_answers_of_two_versions_are_not_merged():
    schema = schema_of({"a": TEXT, "b": TEXT})
    found = search(schema, [(schema_of({"a": TEXT}), stored({"a": "x"}, model_version="one"))])
    for version, expected in (("one", {"a": "x", "b": "y"}), (None, {"a": "x", "b": "y"}), ("two", None)):
        assert found.merged(CheckedAnswer({"b": "y"}, "", Usage(), model_version=version)) == expected


def test_answer_with_other_fields_than_requested_changes_no_reused_field():
    schema = schema_of({"a": TEXT, "b": TEXT})
    found = search(schema, [(schema_of({"a": TEXT}), stored({"a": "x"}))])
    assert found.merged(CheckedAnswer({"a": "other", "b": "y", "c": 1}, "", Usage())) == {"a": "x", "b": "y"}


def test_sources_of_a_merged_answer_are_its_own_sources():
    source = {"fields": ["a"], "run_id": "run_0", "operation_key": "first", "llm_call_ids": ["call_0"]}
    earlier = stored({"a": "x", "b": "y"}, merged_from=[source], llm_call_ids=["call_0", "call_1"])
    schema = schema_of({"a": TEXT, "b": TEXT})
    found = search(schema_of({**schema["properties"], "c": TEXT}), [(schema, earlier)])
    own = {"fields": ["b"], "run_id": "run_1", "operation_key": "key of run_1", "llm_call_ids": ["call_1"]}
    assert found.sources == [source, own]


def test_warnings_of_earlier_answers_remain_except_those_about_times():
    warning = "times outside the segment's 1 s: a=3; the answer was not strict JSON and was repaired: code_fence"
    found = search(schema_of({"a": TEXT}), [(schema_of({"a": TEXT}), stored({"a": "x"}, warning=warning))])
    assert found.warnings() == ["the answer was not strict JSON and was repaired: code_fence"]
