"""The input of a synthesis: selected fields, omitted segments, and the key."""

import pytest

from promptreel.providers import synthesis
from promptreel.providers.synthesis import (
    SegmentFinding,
    render_source,
    synthesis_key,
    synthesis_request,
)
from promptreel.schemas.prompt import prompt_from_dict
from tests.models import ScriptedModel
from tests.prompts import NESTED


def finding(number, metadata=None, transcript="", **fields):
    start_us = number * 5_000_000
    return SegmentFinding(f"seg_{number}", start_us, start_us + 5_000_000, metadata or fields or None, transcript)


def prompt_with_fields(*fields, **level):
    definition = NESTED.to_dict()
    definition["video_level"] = {**definition["video_level"], "included_segment_fields": list(fields), **level}
    return prompt_from_dict(definition)


PRODUCTS = [{"name": "lamp", "tags": ["a", "b"]}, {"name": "desk"}]


def test_selected_fields_follow_the_times_of_their_segment():
    source = render_source(NESTED, [finding(0, summary="dawn", keywords=["k"]), finding(1, products=PRODUCTS)])
    assert source.text == ("[0:00.00 to 0:05.00]\nsummary: dawn\n\n[0:05.00 to 0:10.00]\nproducts[].name: lamp, desk")
    assert source.template_fields == ("summary", "products[].name")
    assert source.covered == ("seg_0", "seg_1")
    assert source.omitted == ()


@pytest.mark.parametrize("fields", [(), ("metadata_text",)])
def test_all_fields_are_read_by_default(fields):
    source = render_source(
        prompt_with_fields(*fields), [finding(0, {"summary": "dawn", "scene": {"location": "dock"}})]
    )
    assert source.text.splitlines()[1:] == ["summary: dawn", "scene.location: dock"]
    assert source.template_fields == ("metadata_text",)


def test_transcript_is_read_if_selected():
    segment = finding(0, summary="dawn", transcript="good morning")
    assert "good morning" not in render_source(prompt_with_fields("summary"), [segment]).text
    assert "transcription: good morning" in render_source(prompt_with_fields("transcription"), [segment]).text
    assert "dawn" not in render_source(prompt_with_fields("transcription"), [segment]).text


def test_segments_are_read_in_order_of_time():
    findings = [finding(number, summary=f"part {number}") for number in (3, 0, 2, 1)]
    source = render_source(NESTED, findings)
    assert source.covered == ("seg_0", "seg_1", "seg_2", "seg_3")
    assert source == render_source(NESTED, list(reversed(findings)))


def test_segments_without_an_answer_are_listed_as_omitted():
    source = render_source(NESTED, [finding(0, summary="a"), finding(1), finding(2, summary="c")])
    assert (source.covered, source.omitted) == (("seg_0", "seg_2"), ("seg_1",))
    assert "[0:05.00 to 0:10.00]" not in source.text


@pytest.mark.parametrize("limit", range(0, 260, 13))
def test_text_stays_within_its_limit_and_omitted_segments_are_listed(monkeypatch, limit):
    monkeypatch.setattr(synthesis, "MAX_RENDERED_CHARS", limit)
    findings = [finding(number, summary="x" * (5 * number)) for number in range(6)]
    source = render_source(NESTED, findings)
    assert len(source.text) <= limit
    assert sorted(source.covered + source.omitted) == [f"seg_{number}" for number in range(6)]
    assert source.text.count("summary: ") == len(source.covered)


def test_text_of_exactly_the_limit_is_complete(monkeypatch):
    findings = [finding(number, summary="x" * 20) for number in range(4)]
    complete = render_source(NESTED, findings)
    monkeypatch.setattr(synthesis, "MAX_RENDERED_CHARS", len(complete.text))
    assert render_source(NESTED, findings) == complete
    monkeypatch.setattr(synthesis, "MAX_RENDERED_CHARS", len(complete.text) - 1)
    assert render_source(NESTED, findings).omitted == ("seg_3",)


def test_request_has_the_synthesis_task_and_schema_without_media():
    source = render_source(NESTED, [finding(0, summary="a")])
    request = synthesis_request(NESTED, source, None)
    assert request.purpose == "video_level_synthesis"
    assert NESTED.video_level.instructions_text in request.instruction
    assert NESTED.prompt_text not in request.instruction
    assert (request.text, request.media) == (source.text, None)
    assert request.json_schema == NESTED.video_level.json_schema


FINDINGS = (finding(0, summary="a"), finding(1, summary="b"))


def key_of(prompt=NESTED, findings=FINDINGS, item="item"):
    return synthesis_key(ScriptedModel({}), prompt, render_source(prompt, findings), item)


@pytest.mark.parametrize(
    "change",
    [
        {"findings": FINDINGS[:1]},
        {"findings": (FINDINGS[0], finding(1, summary="c"))},
        {"findings": (*FINDINGS, finding(2))},
        {"item": "another"},
        {"prompt": prompt_with_fields("summary", "products[].name", instructions_text="Another task.")},
        {
            "prompt": prompt_with_fields(
                "summary", "products[].name", json_schema={"type": "object", "properties": {"t": {"type": "string"}}}
            )
        },
    ],
)
def test_model_input_changes_the_key(change):
    assert key_of(**change) != key_of()


@pytest.mark.parametrize(
    "change",
    [
        {"findings": tuple(reversed(FINDINGS))},
        {"findings": (finding(0, {"summary": "a", "keywords": ["not read"]}), FINDINGS[1])},
        {"prompt": prompt_from_dict({**NESTED.to_dict(), "name": "renamed"})},
    ],
)
def test_anything_else_does_not_change_the_key(change):
    assert key_of(**change) == key_of()


def window(number, start_s, end_s, **fields):
    return SegmentFinding(f"seg_{number}", start_s * 1_000_000, end_s * 1_000_000, fields or None)


def test_overlapping_segments_name_the_time_that_they_share():
    prompt = prompt_with_fields("summary")
    source = render_source(prompt, [window(0, 0, 10, summary="a"), window(1, 5, 15, summary="b")])
    note, *blocks = source.text.split("\n\n")
    assert note == synthesis.OVERLAP_NOTE
    assert blocks == [
        "[0:00.00 to 0:10.00]\nsummary: a",
        "[0:05.00 to 0:15.00; until 0:10.00 also in a segment above]\nsummary: b",
    ]
    assert source.overlap_us == 5_000_000


def test_overlap_with_an_omitted_segment_is_not_named():
    source = render_source(prompt_with_fields("summary"), [window(0, 0, 10), window(1, 5, 15, summary="b")])
    assert source.text == "[0:05.00 to 0:15.00]\nsummary: b"
    assert source.overlap_us == 0
