"""Prompt definitions: what is accepted, what is refused and how, and that nothing is lost on the way."""

import json

import pytest

from promptreel.prompts import builtin_names, find_prompt
from promptreel.schemas.errors import PromptError
from promptreel.schemas.prompt import prompt_from_dict, read_prompt_file

GOOD = {
    "name": "scenes",
    "prompt_text": "Describe the scene in a sentence.",
    "json_schema": {
        "type": "object",
        "properties": {
            "summary": {"type": "string"},
            "people": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        },
        "required": ["summary"],
    },
    "video_level": {
        "instructions_text": "Sum up.",
        "included_segment_fields": ["summary", "people[].name", "transcription"],
        "json_schema": {"type": "object", "properties": {"topic": {"type": "string"}}},
    },
    "semantic_indexing": {"disabled_segment_fields": ["people[].name"], "disabled_video_level_fields": ["topic"]},
}


def changed(**changes):
    return {**GOOD, **changes}


def test_a_definition_survives_the_round_trip_and_keeps_its_id():
    prompt = prompt_from_dict(GOOD)
    again = prompt_from_dict(json.loads(json.dumps(prompt.to_dict())))
    assert again == prompt
    assert again.prompt_id == prompt.prompt_id
    assert prompt_from_dict(changed(name="others")).prompt_id != prompt.prompt_id


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("text", "must be a JSON object"),
        ({"name": "abc"}, "json_schema, prompt_text missing"),
        (changed(promt="x"), "unknown key promt"),
        (changed(name="ab"), "name: must have 3 to 100 characters, has 2"),
        (changed(name=7), "name: must be text"),
        (changed(prompt_text="short"), "prompt_text: must have 10 to 5000"),
        (changed(prompt_text="x" * 5001), "prompt_text: must have 10 to 5000"),
        (
            changed(json_schema={"type": "object", "properties": {"n": {"type": "integer", "minimum": "low"}}}),
            "not a valid JSON schema at properties/n/minimum",
        ),
        (
            changed(json_schema={"type": "object", "properties": {"a": {"type": "strng"}}}),
            "field 'a' has the unknown type 'strng'",
        ),
        (
            changed(video_level={**GOOD["video_level"], "included_segment_fields": ["sumary"]}),
            "no field 'sumary' in the schema; its fields are summary, people[].name",
        ),
        (changed(video_level={**GOOD["video_level"], "instructions_text": ""}), "video_level.instructions_text"),
        (
            changed(video_level={**GOOD["video_level"], "included_segment_fields": "summary"}),
            "must be a list of strings",
        ),
        (changed(semantic_indexing={"disabled_segment_fields": ["nope"]}), "no field 'nope'"),
        (changed(semantic_indexing={"disabled_video_level_fields": ["summary"]}), "no field 'summary'"),
    ],
)
def test_a_broken_rule_is_named(definition, message):
    with pytest.raises(PromptError) as caught:
        prompt_from_dict(definition)
    assert message in str(caught.value)


def test_a_prompt_file_that_cannot_be_used_is_named(tmp_path):
    broken = tmp_path / "p.json"
    broken.write_text("{")
    with pytest.raises(PromptError, match=r"p\.json.*is not JSON"):
        read_prompt_file(broken)
    with pytest.raises(PromptError, match="cannot be read"):
        read_prompt_file(tmp_path / "none.json")
    with pytest.raises(PromptError, match=r"no prompt 'nonesuch'.*measure"):
        find_prompt("nonesuch")


def test_the_prompts_that_come_along_are_valid():
    assert "measure" in builtin_names()
    for name in builtin_names():
        assert find_prompt(name).leaves
