"""Prompt definitions: validation, error messages and the JSON round trip."""

import json

import pytest

from promptreel.prompts import builtin_names, find_prompt
from promptreel.schemas.errors import PromptError
from promptreel.schemas.prompt import SemanticIndexing, prompt_from_dict, read_prompt_file

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


def test_round_trip_preserves_definition_and_id():
    prompt = prompt_from_dict(GOOD)
    decoded = prompt_from_dict(json.loads(json.dumps(prompt.to_dict())))
    assert decoded == prompt
    assert decoded.prompt_id == prompt.prompt_id
    assert prompt_from_dict(changed(name="others")).prompt_id != prompt.prompt_id


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("text", "the value is 'text'; it must be a JSON object"),
        ({"name": "abc"}, "prompt_text is missing; add it"),
        (changed(promt="x"), "promt is unknown; remove it or correct its name"),
        (changed(name="ab"), "name: has 2 characters; it must have 3 to 100"),
        (changed(name=7), "name is 7; it must be a valid string"),
        (changed(prompt_text="short"), "prompt_text: has 5 characters; it must have 10 to 5000"),
        (changed(prompt_text="x" * 5001), "prompt_text: has 5001 characters; it must have 10 to 5000"),
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
            "video_level.included_segment_fields is 'summary'; it must be a JSON array",
        ),
        (changed(semantic_indexing={"disabled_segment_fields": ["nope"]}), "no field 'nope'"),
        (changed(semantic_indexing={"disabled_video_level_fields": ["summary"]}), "no field 'summary'"),
    ],
)
def test_invalid_definition_is_named(definition, message):
    with pytest.raises(PromptError) as caught:
        prompt_from_dict(definition)
    assert message in str(caught.value)


def test_null_in_optional_field_means_default():
    nulls = changed(description=None, video_level=None, semantic_indexing=None)
    assert prompt_from_dict(nulls) == prompt_from_dict({k: v for k, v in nulls.items() if v is not None})
    lists = changed(
        video_level={**GOOD["video_level"], "included_segment_fields": None},
        semantic_indexing={"disabled_segment_fields": None, "disabled_video_level_fields": None},
    )
    prompt = prompt_from_dict(lists)
    assert prompt.video_level.included_segment_fields == ()
    assert prompt.semantic_indexing == SemanticIndexing()


def test_unusable_prompt_file_is_named(tmp_path):
    broken = tmp_path / "p.json"
    broken.write_text("{")
    with pytest.raises(PromptError, match=r"p\.json.*is not JSON"):
        read_prompt_file(broken)
    with pytest.raises(PromptError, match="cannot be read"):
        read_prompt_file(tmp_path / "none.json")
    with pytest.raises(PromptError, match=r"no prompt 'nonesuch'.*measure"):
        find_prompt("nonesuch")


def test_builtin_prompts_are_valid():
    assert "measure" in builtin_names()
    for name in builtin_names():
        assert find_prompt(name).leaves
