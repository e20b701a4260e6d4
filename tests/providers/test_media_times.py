"""Media times of an answer: found wherever the schema has them, read from text, and placed in the item."""

import json
from pathlib import Path

import pytest

from promptreel.providers.answers import AnswerFailed, check_answer
from promptreel.providers.base import ModelAnswer, SegmentInput, Usage
from promptreel.providers.extraction import extraction_request, to_item_times
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.prompt import prompt_from_dict

TIME = {"type": "number", "format": "media-time"}
NULLABLE_TIME = {"anyOf": [{"type": "number"}, {"type": "null"}], "format": "media-time", "default": None}
SEGMENT = SegmentInput("video", Path("."), TimeSpan(10_500_000, 20_500_000), (), None, "item", 60_000_000, ())


def obj(**properties):
    return {"type": "object", "properties": properties}


def placed(schema, answer):
    """Return what a segment that starts at 10.5 s stores of a model's answer, and the warning."""
    prompt = prompt_from_dict({"name": "any", "prompt_text": "Say what is seen.", "json_schema": schema})
    usage = Usage(input_tokens=1)
    checked = check_answer(ModelAnswer(json.dumps(answer), "STOP", usage), extraction_request(prompt, SEGMENT))
    assert checked.text == json.dumps(answer)
    return to_item_times(checked.metadata, prompt.json_schema, SEGMENT)


UNION = {"oneOf": [obj(kind={"const": "cut"}, at=TIME), obj(kind={"const": "count"}, at={"type": "number"})]}
OPEN_UNION = {"anyOf": [obj(at=TIME), obj(note={"type": "string"})]}
# schema of `a`, value of `a`, stored value
POSITIONS = {
    "union of scalars": ({"anyOf": [TIME, {"type": "string"}]}, 1, 11.5),
    "text of a union of scalars": ({"anyOf": [TIME, {"type": "string"}]}, "dusk", "dusk"),
    "nullable union": (NULLABLE_TIME, 1, 11.5),
    "null": (NULLABLE_TIME, None, None),
    "branch with a time": (UNION, {"kind": "cut", "at": 1}, {"kind": "cut", "at": 11.5}),
    "branch without a time": (UNION, {"kind": "count", "at": 1}, {"kind": "count", "at": 1}),
    "both branches fit": (OPEN_UNION, {"at": 1, "note": "x"}, {"at": 11.5, "note": "x"}),
    "branches that disagree": ({"anyOf": [{"type": "number"}, TIME]}, 1, 11.5),
    "list of unions": ({"type": "array", "items": UNION}, [{"kind": "cut", "at": 2}], [{"kind": "cut", "at": 12.5}]),
    "tuple": (
        {"type": "array", "prefixItems": [{"type": "number"}, TIME], "items": {"type": "number"}},
        [1, 2, 3],
        [1, 12.5, 3],
    ),
    "rest of a tuple": ({"type": "array", "prefixItems": [{"type": "number"}], "items": TIME}, [1, 2], [1, 12.5]),
    "tuple of draft 7": ({"type": "array", "items": [{"type": "string"}, TIME]}, ["x", 2], ["x", 12.5]),
    "dictionary": ({"type": "object", "additionalProperties": TIME}, {"x": 1, "y": 2}, {"x": 11.5, "y": 12.5}),
    "dictionary beside fields": (
        {**obj(n={"type": "number"}), "additionalProperties": TIME},
        {"n": 1, "x": 2},
        {"n": 1, "x": 12.5},
    ),
    "dictionary of lists": (
        {"type": "object", "additionalProperties": {"type": "array", "items": obj(at=TIME)}},
        {"x": [{"at": 1}]},
        {"x": [{"at": 11.5}]},
    ),
    "reference": ({"$ref": "#/$defs/at"}, 1, 11.5),
    "allOf": ({"allOf": [obj(x=TIME), obj(y={"type": "number"})]}, {"x": 1, "y": 1}, {"x": 11.5, "y": 1}),
    "condition": (
        {**obj(n={"type": "number"}), "if": {"required": ["n"]}, "then": {"properties": {"at": TIME}}},
        {"n": 1, "at": 1},
        {"n": 1, "at": 11.5},
    ),
    "contains": ({"type": "array", "contains": TIME}, ["x", 1], ["x", 11.5]),
    "not": ({"type": "number", "not": {**TIME, "minimum": 5}}, 1, 1),
    "whole seconds": ({"type": "integer", "format": "media-time"}, 3, 13.5),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_time_is_placed_in_the_item_wherever_it_is(name):
    part, value, stored = POSITIONS[name]
    schema = {**obj(a=part, length={"type": "number"}), "$defs": {"at": TIME}}
    assert placed(schema, {"a": value, "length": 4}) == ({"a": stored, "length": 4}, None)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("00:03", 3),
        ("1:02:03.5", 3723.5),
        ("3.5s", 3.5),
        ("3.5", 3.5),
        (" 0:07 ", 7),
        ("75:30", 4530),
        ("00:00:03,250", 3.25),
    ],
)
@pytest.mark.parametrize("part", [TIME, NULLABLE_TIME, {"$ref": "#/$defs/at"}, {"type": ["number", "null"], **TIME}])
def test_time_written_as_text_is_read(part, written, seconds):
    converted, _ = placed({**obj(a=part), "$defs": {"at": TIME}}, {"a": written})
    assert converted == {"a": 10.5 + seconds}


TEXTS = {
    "list": ({"type": "array", "items": TIME}, ["0:01", 2], [11.5, 12.5]),
    "tuple": ({"type": "array", "prefixItems": [{"type": "string"}, TIME]}, ["0:01", "0:02"], ["0:01", 12.5]),
    "dictionary": ({"type": "object", "additionalProperties": TIME}, {"x": "0:01"}, {"x": 11.5}),
    "branch": (UNION, {"kind": "cut", "at": "0:01"}, {"kind": "cut", "at": 11.5}),
    "open branches": (OPEN_UNION, {"at": "0:01"}, {"at": 11.5}),
    "text where text is allowed": ({"anyOf": [{"type": "string"}, TIME]}, "0:01", "0:01"),
    "text beside a time": (obj(x={"type": "string"}, at=TIME), {"x": "0:01", "at": "0:01"}, {"x": "0:01", "at": 11.5}),
    "whole seconds": ({"type": "integer", "format": "media-time"}, "0:03", 13.5),
    "beside a text of a union": (
        {"anyOf": [obj(at=TIME, note={"oneOf": [TIME, {"type": "string"}]}), {"type": "integer"}]},
        {"at": "0:01", "note": "0:02"},
        {"at": 11.5, "note": "0:02"},
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_a_time_only_where_only_a_time_fits(name):
    part, value, stored = TEXTS[name]
    assert placed(obj(a=part), {"a": value}) == ({"a": stored}, None)


@pytest.mark.parametrize(
    "written", ["", "soon", "1:99", "1:2:3:4", "-0:01", "3 km", "٣", "1e3", "NaN", ":30", "9" * 400]
)
def test_text_that_is_no_time_does_not_fit(written):
    with pytest.raises(AnswerFailed, match="does not fit the schema at a"):
        placed(obj(a=TIME), {"a": written})


def test_time_of_text_is_checked_against_its_limits():
    with pytest.raises(AnswerFailed, match="maximum"):
        placed(obj(a={**TIME, "maximum": 5}), {"a": "0:06"})


def test_warning_names_a_time_inside_a_dictionary():
    schema = obj(a={"type": "object", "additionalProperties": {"type": "array", "items": obj(at=TIME)}})
    assert placed(schema, {"a": {"x": [{"at": 99}]}})[1] == "times outside the segment's 10 s: a.x[].at=99"
