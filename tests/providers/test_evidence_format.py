"""The schema, instruction and key of requests with evidence, and the split of their answers."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator

from promptreel.providers.answers import AnswerFailed, check_answer
from promptreel.providers.base import ModelAnswer, ModelRequest, Usage
from promptreel.providers.evidence_format import (
    EVIDENCE_INSTRUCTION,
    evidence_key,
    schema_with_evidence,
    with_evidence,
)
from promptreel.providers.gemini_schema import wire_schema
from promptreel.providers.openai_dialect import is_strict
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.evidence import EvidenceSettings, check_evidence_fields, evidence_fields
from promptreel.schemas.prompt import prompt_from_dict
from tests.brought_schemas import cases
from tests.prompts import NESTED

CLOSED = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "seen": {"type": "number", "format": "media-time"}},
    "required": ["title", "seen"],
    "additionalProperties": False,
}
REFERRING = {
    "type": "object",
    "properties": {
        "from": {"$ref": "#/$defs/place"},
        "to": {"$ref": "#/properties/from"},
        "evidence": {"type": "string"},
    },
    "$defs": {"place": {"type": "object", "properties": {"name": {"$ref": "#/definitions/name"}}}},
    "definitions": {"name": {"type": "string"}},
}
PART = {"start": 1, "end": 2, "quote": "hello", "quote_source": "speech"}


def request(schema=CLOSED, fields=("title", "seen")):
    return with_evidence(ModelRequest("metadata_extraction", "Task", "Segment", schema), fields)


def check(value, schema=CLOSED, fields=("title", "seen")):
    text = value if isinstance(value, str) else json.dumps(value)
    return check_answer(ModelAnswer(text, "STOP", Usage()), request(schema, fields))


def test_request_without_evidence_is_unchanged():
    plain = ModelRequest("metadata_extraction", "Task", "Segment", CLOSED)
    assert with_evidence(plain, ()) is plain
    assert evidence_key("key", ()) == "key"


def test_each_set_of_fields_has_a_key_of_its_own():
    assert len({"key", *(evidence_key("key", fields) for fields in (["a"], ["b"], ["a", "b"]))}) == 4


def test_instruction_and_schema_request_evidence():
    sent = request()
    assert sent.instruction == f"Task\n\n{EVIDENCE_INSTRUCTION}"
    assert sent.answer_schema == CLOSED
    assert list(sent.json_schema["properties"]["evidence"]["properties"]) == ["title", "seen"]
    assert is_strict(sent.json_schema)  # a strict schema stays strict


def test_references_still_find_their_parts():
    schema = schema_with_evidence(REFERRING, ("from",))
    assert schema["properties"]["answer"]["properties"]["to"]["$ref"] == "#/properties/answer/properties/from"
    validator = Draft202012Validator(schema)
    evidence = {"from": PART}
    assert validator.is_valid({"answer": {"from": {"name": "A"}, "to": {"name": "B"}}, "evidence": evidence})
    assert not validator.is_valid({"answer": {"to": {"name": 3}}, "evidence": evidence})
    assert wire_schema(schema)["properties"]["answer"]["properties"]["from"] == {"$ref": "#/$defs/place"}


@given(case=cases())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_schema_gives_the_same_fields_with_evidence(case):
    prompt = prompt_from_dict({"name": "brought", "prompt_text": "Say what is seen.", "json_schema": case.schema})
    fields = evidence_fields(prompt.json_schema, EvidenceSettings())
    if not fields:
        return
    plain = check(case.written, prompt.json_schema, ())
    found = check({"answer": case.written, "evidence": dict.fromkeys(fields, PART)}, prompt.json_schema, fields)
    assert found.metadata == plain.metadata
    extended = schema_with_evidence(prompt.json_schema, fields)
    Draft202012Validator(extended).validate({"answer": plain.metadata, "evidence": dict.fromkeys(fields, PART)})
    assert wire_schema(extended)["required"] == ["answer", "evidence"]


def test_answer_and_evidence_are_split():
    found = check({"answer": {"title": "A", "seen": "00:03"}, "evidence": {"title": PART}})
    assert found.metadata == {"title": "A", "seen": 3}
    assert found.evidence == {"title": PART}


@pytest.mark.parametrize("evidence", [None, "none", [1], {"title": 3}, {"title": {"start": "soon"}}, {"other": {}}])
def test_malformed_evidence_does_not_fail_the_answer(evidence):
    assert check({"answer": {"title": "A", "seen": 1}, "evidence": evidence}).metadata == {"title": "A", "seen": 1}


@pytest.mark.parametrize("number", ["1e400", "9" * 30])
def test_evidence_that_no_file_can_store_is_dropped(number):
    text = f'{{"answer": {{"title": "A", "seen": 1}}, "evidence": {{"title": {{"start": {number}}}}}}}'
    found = check(text)
    assert (found.metadata, found.evidence) == ({"title": "A", "seen": 1}, None)


def test_answer_without_envelope_is_accepted():
    found = check({"title": "A", "seen": 1})
    assert (found.metadata, found.evidence) == ({"title": "A", "seen": 1}, None)


def test_fields_of_the_user_fail_as_without_evidence():
    with pytest.raises(AnswerFailed, match="does not fit the schema at seen"):
        check({"answer": {"title": "A", "seen": "soon"}, "evidence": {"title": PART, "seen": PART}})


def test_fields_named_like_the_envelope_do_not_collide():
    schema = {"type": "object", "properties": {"answer": {"type": "string"}, "evidence": {"type": "string"}}}
    found = check({"answer": {"answer": "yes", "evidence": "a receipt"}, "evidence": {"answer": PART}}, schema)
    assert found.metadata == {"answer": "yes", "evidence": "a receipt"}
    assert found.evidence == {"answer": PART}


def test_fields_are_those_of_the_prompt_in_its_order():
    fields = evidence_fields(NESTED.json_schema, EvidenceSettings(("products", "summary")))
    assert fields == ("summary", "products")
    assert evidence_fields(NESTED.json_schema, None) == ()


@pytest.mark.parametrize(
    ("schema", "fields", "message"),
    [
        (CLOSED, ("titel",), "'titel' is not a top-level field of the prompt; use title, seen"),
        ({"type": "object"}, (), "has no named fields"),
    ],
)
def test_unknown_fields_are_rejected(schema, fields, message):
    with pytest.raises(SettingsError, match=message):
        check_evidence_fields(schema, EvidenceSettings(fields))
