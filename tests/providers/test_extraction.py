"""The request for one segment, its key, and the conversion of its times."""

import dataclasses
from pathlib import Path

import pytest

from promptreel.providers.base import SegmentInput
from promptreel.providers.chosen_media import choice_material
from promptreel.providers.extraction import (
    extraction_instruction,
    extraction_key,
    extraction_request,
    to_item_times,
)
from promptreel.providers.gemini import GeminiProvider
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.providers.signals import SignalsProvider
from promptreel.providers.synthesis import PREAMBLE as SYNTHESIS_PREAMBLE
from promptreel.providers.token_estimate import CHARS_PER_TOKEN
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.prompt import INSTRUCTIONS_CHARS, PROMPT_TEXT_CHARS, prompt_from_dict
from promptreel.schemas.settings import ModelSettings
from tests.models import ScriptedModel
from tests.prompts import NESTED

# Times

TIME = {"type": "number", "format": "media-time"}
TIMES = {
    "type": "object",
    "properties": {
        "at": TIME,
        "all": {"type": "array", "items": TIME},
        "lists": {"type": "array", "items": {"type": "array", "items": TIME}},
        "scene": {"type": "object", "properties": {"begins": TIME, "length": {"type": "number"}}},
        "people": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "seen": {"type": "array", "items": {"type": "object", "properties": {"at": TIME}}},
                    "first": {"type": ["number", "null"], "format": "media-time"},
                },
            },
        },
    },
}


def media_of(start_us, end_us, media_type="video"):
    return SegmentInput(media_type, Path("."), TimeSpan(start_us, end_us), (), None, "item", 60_000_000, ())


SEGMENT = media_of(10_000_000, 20_000_000)


@pytest.mark.parametrize(
    ("answer", "converted"),
    [
        ({"at": 0}, {"at": 10}),
        ({"at": 2.5}, {"at": 12.5}),
        ({"at": 0.1234567}, {"at": 10.123457}),
        ({"at": None}, {"at": None}),
        ({}, {}),
        ({"all": [1, 2, 3]}, {"all": [11, 12, 13]}),
        ({"all": []}, {"all": []}),
        ({"lists": [[1], [], [2, 3]]}, {"lists": [[11], [], [12, 13]]}),
        ({"scene": {"begins": 4, "length": 3}}, {"scene": {"begins": 14, "length": 3}}),
        (
            {"people": [{"seen": [{"at": 1}, {}], "first": 1}, {"seen": [], "first": None}]},
            {"people": [{"seen": [{"at": 11}, {}], "first": 11}, {"seen": [], "first": None}]},
        ),
        ({"unknown": 5, "at": 1}, {"unknown": 5, "at": 11}),
    ],
)
def test_all_media_times_are_converted_and_nothing_else(answer, converted):
    assert to_item_times(answer, TIMES, SEGMENT) == (converted, None)


@pytest.mark.parametrize(("time_s", "is_outside"), [(-1, False), (-1.01, True), (11, False), (11.01, True), (99, True)])
def test_time_outside_the_segment_is_converted_with_a_warning(time_s, is_outside):
    converted, warning = to_item_times({"at": time_s}, TIMES, SEGMENT)
    assert converted["at"] == pytest.approx(10 + time_s)
    assert warning == (f"times outside the segment's 10 s: at={time_s:g}" if is_outside else None)


def test_warning_names_at_most_five_times():
    _, warning = to_item_times({"all": [100 + n for n in range(20)]}, TIMES, SEGMENT)
    assert warning.count("all=") == 5


# The request


def test_instruction_is_shared_and_text_is_specific_to_the_segment():
    first, second = (
        extraction_request(NESTED, media) for media in (media_of(0, 5_000_000), media_of(5_000_000, 65_040_000))
    )
    assert first.instruction == second.instruction
    assert NESTED.prompt_text in first.instruction
    assert second.text == "This segment is 0:05.00 to 1:05.04 of a video that lasts 1:00.00."
    assert first.text != second.text
    assert first.json_schema == NESTED.json_schema
    assert extraction_request(NESTED, media_of(0, 0, "image")).text == "This is one image."
    assert "audio recording" in extraction_request(NESTED, media_of(0, 1, "audio")).text


# The key

PROMPT = NESTED.to_dict()
GEMINI = ModelSettings(DEFAULT_GEMINI_MODEL)
# Another value for each setting: those that change the answer, and those that limit it or set where the call goes.
CHANGES_THE_ANSWER = {
    "model": "gemini-2.5-pro",
    "media_input": "frames",
    "frames_per_segment": 3,
    "sound": False,
    "media_resolution": "low",
    "temperature": 0.5,
    "thinking_budget": 0,
    "thinking_level": "low",
}
KEEPS_THE_ANSWER = {
    "max_output_tokens": 100,
    "tier": "batch",
    "base_url": "http://127.0.0.1:1",
    "vertex_project": "p",
    "vertex_location": "l",
}


def key_of(prompt=PROMPT, settings=GEMINI, item="item", span=(0, 5_000_000), fps=1.0):
    provider = GeminiProvider(settings, fps)
    choice = choice_material(provider, settings, "video")
    return extraction_key(provider, prompt_from_dict(prompt), item, span, choice=choice)


def test_every_model_setting_is_classified():
    assert {part.name for part in dataclasses.fields(ModelSettings)} == {*CHANGES_THE_ANSWER, *KEEPS_THE_ANSWER}


@pytest.mark.parametrize("name", CHANGES_THE_ANSWER)
def test_setting_that_changes_the_answer_changes_the_key(name):
    assert key_of(settings=dataclasses.replace(GEMINI, **{name: CHANGES_THE_ANSWER[name]})) != key_of()


def test_budget_and_address_of_the_model_do_not_change_the_key():
    assert key_of(settings=dataclasses.replace(GEMINI, **KEEPS_THE_ANSWER)) == key_of()


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": {**PROMPT, "prompt_text": "Describe it in another way."}},
        {"prompt": {**PROMPT, "json_schema": {**PROMPT["json_schema"], "required": []}}},
        {"item": "another item"},
        {"span": (0, 5_000_001)},
        {"span": (1, 5_000_000)},
    ],
)
def test_another_request_or_other_media_change_the_key(change):
    assert key_of(**change) != key_of()


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": {**PROMPT, "name": "renamed"}},
        {"prompt": {**PROMPT, "description": "described"}},
        {"prompt": {**PROMPT, "video_level": None}},
        {"prompt": {**PROMPT, "semantic_indexing": {"disabled_segment_fields": ["summary"]}}},
        {"prompt": {key: PROMPT[key] for key in reversed(PROMPT)}},
    ],
)
def test_anything_not_sent_does_not_change_the_key(change):
    assert key_of(**change) == key_of()


def test_providers_do_not_share_keys():
    providers = (SignalsProvider(), GeminiProvider(GEMINI, 1.0), ScriptedModel({}))
    assert len({extraction_key(provider, NESTED, "item", (0, 1)) for provider in providers}) == 3


# Length

LEAST_CACHED_TOKENS = 4096  # from Gemini 3.1 on; ai.google.dev/gemini-api/docs/caching, read on 2026-11-27


def test_longest_instructions_are_too_short_for_context_caching():
    """Otherwise explicit caches may pay; see ARCHITECTURE.md."""
    longest = extraction_instruction("x" * PROMPT_TEXT_CHARS[1])
    synthesis = SYNTHESIS_PREAMBLE + "x" * INSTRUCTIONS_CHARS[1]
    assert len(longest) / CHARS_PER_TOKEN < 1400
    assert len(synthesis) / CHARS_PER_TOKEN < 3300 < LEAST_CACHED_TOKENS
