"""Bodies of filter search requests: conditions, groups, and what is rejected."""

import json
from pathlib import Path

import pytest

from tests.api.filter_calls import CRANE, EQUALS, search
from tests.api_server import assert_error, ok_json
from tests.prompts import NESTED

pytest_plugins = ["tests.api.filter_fixtures"]


def test_groups_allow_more_than_four_conditions(filter_caller, filter_catalogue):
    index = filter_catalogue.index()
    documents = [{"summary": f"{n}", "scene": {"people_count": n}} for n in range(10)]
    filter_catalogue.run({filter_catalogue.video(index): documents}, index_id=index)

    def is_count(n):
        return {"field": "scene.people_count", "type": "integer", "operator": "equals", "value": n}

    def numbers(**body):
        return [hit["metadata"]["scene"]["people_count"] for hit in search(filter_caller, index, **body)["results"]]

    assert numbers(groups=[{"any": [is_count(n) for n in range(6)]}]) == list(range(6))
    below = {**is_count(4), "operator": "less_than"}
    assert numbers(conditions=[below], groups=[{"not": {"any": [is_count(1), is_count(2)]}}]) == [0, 3]
    assert numbers(groups=[{"all": [below, {"not": is_count(0)}]}, {"not": is_count(3)}]) == [1, 2]
    deep = {"not": {"not": {"not": {"not": {"not": is_count(1)}}}}}
    assert numbers(groups=[deep]) == [0, *range(2, 10)]
    for groups in (
        [{"not": deep}],
        [{"any": [is_count(1)] * 101}],
        [{"any": [is_count(1)] * 60}] * 2,
        [{"any": []}],
        [],
        [{"not": [below]}],
        [{"any": [below], "all": [below]}],
        [{"none": [below]}],
        {"any": [below]},
    ):
        assert_error(filter_caller.post(f"/search/filter/{index}", {"groups": groups}), 422, "validation_failed")


LIST = {"field": "keywords", "type": "array"}


INVALID_CONDITIONS = [
    {**EQUALS, "extra": 1},
    {**EQUALS, "fuzzyMatch": True},
    {**EQUALS, "operator": "eq"},
    {**EQUALS, "operator": "greater_than"},
    {**EQUALS, "type": "text"},
    {**EQUALS, "value": "  "},
    {**EQUALS, "value": 3},
    {**EQUALS, "value": None},
    {**EQUALS, "value": "\ud800"},
    {**EQUALS, "field": "  "},
    {**EQUALS, "field": 3},
    {key: value for key, value in EQUALS.items() if key != "value"},
    {key: value for key, value in EQUALS.items() if key != "type"},
    {**EQUALS, "operator": "is_empty"},
    {**EQUALS, "operator": "is_empty", "value": None},
    {"field": "scene.people_count", "type": "integer", "operator": "equals", "value": True},
    {"field": "scene.people_count", "type": "integer", "operator": "equals", "value": 1.0},
    {"field": "scene.people_count", "type": "integer", "operator": "equals", "value": 2**63},
    {"field": "scene.people_count", "type": "integer", "operator": "contains", "value": 1},
    {"field": "start_time", "type": "number", "operator": "equals", "value": "1"},
    {"field": "start_time", "type": "number", "operator": "equals", "value": False},
    {"field": "start_time", "type": "number", "operator": "equals", "value": 10**400},
    {"field": "scene.bright", "type": "boolean", "operator": "equals", "value": 1},
    {"field": "scene.bright", "type": "boolean", "operator": "is_empty"},
    {**LIST, "operator": "length_equals", "value": -1},
    {**LIST, "operator": "length_equals", "value": 1.5},
    {**LIST, "operator": "length_equals", "value": True},
    {**LIST, "operator": "item_contains", "value": 1},
    {**LIST, "operator": "item_equals", "value": ["a"]},
    {**LIST, "operator": "item_equals", "value": {}},
    {**LIST, "operator": "item_equals", "value": " "},
    {**LIST, "operator": "equals", "value": "a"},
    {**LIST, "operator": "is_not_empty", "value": 1},
    "summary",
    None,
    [],
]


@pytest.mark.parametrize("condition", INVALID_CONDITIONS, ids=str)
def test_invalid_condition_is_422(filter_caller, filter_catalogue, condition):
    index = filter_catalogue.index()
    body = json.dumps({"conditions": [condition]})
    headers = {"Content-Type": "application/json"}
    assert_error(
        filter_caller.http.post(f"/search/filter/{index}", content=body, headers=headers), 422, "validation_failed"
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"conditions": []},
        {"conditions": [EQUALS] * 5},
        {"conditions": [EQUALS], "page_size": 0},
        {"conditions": [EQUALS], "page_size": 101},
        {"conditions": [EQUALS], "page_size": "5"},
        {"conditions": [EQUALS], "run_ids": []},
        {"conditions": [EQUALS], "run_id": "run_1"},
        {"conditions": [EQUALS], "start_after": "x"},
        {"conditions": EQUALS},
    ],
    ids=str,
)
def test_invalid_body_is_422(filter_caller, filter_catalogue, body):
    assert_error(filter_caller.post(f"/search/filter/{filter_catalogue.index()}", body), 422, "validation_failed")


def test_null_counts_as_absent_and_field_is_trimmed(filter_caller, filter_catalogue):
    index = filter_catalogue.index()
    filter_catalogue.run({filter_catalogue.video(index): [CRANE]}, index_id=index)
    body = dict.fromkeys(("cursor", "run_ids", "index_ids", "groups"))
    assert search(filter_caller, index, {**EQUALS, "field": "  summary "}, **body)["total_shown"] == 1


def test_documented_examples_are_accepted(filter_caller, filter_catalogue):
    """All request bodies in docs/filters.md are accepted."""
    index = filter_catalogue.index()
    filter_catalogue.run({filter_catalogue.video(index): [CRANE]}, NESTED, index_id=index)
    text = (Path(__file__).parents[2] / "docs" / "filters.md").read_text()
    bodies = [part.split("```")[0] for part in text.split("```json request\n")[1:]]
    assert len(bodies) >= 3
    for body in bodies:
        ok_json(filter_caller.post(f"/search/filter/{index}", json.loads(body)))
