"""The requests of the Gemini provider, as the fake service receives them, and the usage of its answers."""

import dataclasses
import json
import math

import pytest

from promptreel.providers import gemini
from tests.analysed_media import segment_of
from tests.fake_gemini import Fault
from tests.models import SCHEMA
from tests.prompts import NESTED
from tests.providers.gemini_calls import (
    answer_with,
    build_request,
    call_all,
    call_model,
    content_of,
    media_parts,
    pictures_of,
    sound_length,
)


@pytest.mark.parametrize(("start_s", "end_s"), [(0, 12), (3, 7.5), (10.25, 12)])
def test_segment_is_sent_as_one_clip_of_its_length(service, film, tmp_path, start_s, end_s):
    answer, (call,) = call_model(service, build_request(segment_of(film, start_s, end_s)))
    assert answer.metadata == {"n": 1}
    (part,) = media_parts(service.bodies[0])
    assert part["inlineData"]["mimeType"] == "video/mp4"
    assert "videoMetadata" not in part
    times_s, length_s = pictures_of(content_of(part))
    frames = segment_of(film, start_s, end_s).frames
    # The clip may repeat its last picture at its end.
    assert len(times_s) - len(frames) in (0, 1)
    assert times_s[: len(frames)] == pytest.approx(
        [max(0, frame.time_us / 1e6 - start_s) for frame in frames], abs=0.05
    )
    assert length_s == pytest.approx(end_s - start_s, abs=0.13)
    assert sound_length(content_of(part), tmp_path) == pytest.approx(
        end_s - start_s, abs=0.13
    )  # an AAC frame of 1024 samples on each side
    assert call.video_tokens == 70 * math.floor(end_s - start_s + 0.1)
    assert call.audio_tokens == pytest.approx(32 * (end_s - start_s), abs=6)
    assert call.image_tokens == 0
    assert call.input_tokens == call.text_tokens + call.video_tokens + call.audio_tokens
    assert call.total_tokens == call.input_tokens + call.output_tokens
    assert call.video_seconds == end_s - start_s


def test_short_silent_clip_is_stretched_to_the_minimum_length(service, film):
    media = dataclasses.replace(segment_of(film, 3.2, 3.9), audio_file=None)
    call_model(service, build_request(media))
    (part,) = media_parts(service.bodies[0])
    assert pictures_of(content_of(part))[1] == pytest.approx(1.0, abs=0.1)  # the minimum length of a clip


def test_audio_segment_is_sent_as_an_audio_clip(service, tone, tmp_path):
    _, (call,) = call_model(service, build_request(segment_of(tone, 2, 5)), fps=0.5)
    (part,) = media_parts(service.bodies[0])
    assert part["inlineData"]["mimeType"] == "audio/mp4"
    assert "videoMetadata" not in part
    assert sound_length(content_of(part), tmp_path) == pytest.approx(3, abs=0.13)
    assert (call.video_tokens, call.image_tokens) == (0, 0)
    assert call.audio_tokens > 0


def test_image_is_sent_unchanged(service, still):
    media = segment_of(still)
    _, (call,) = call_model(service, build_request(media))
    (part,) = media_parts(service.bodies[0])
    assert part["inlineData"]["mimeType"] == "image/jpeg"
    assert content_of(part) == (media.folder / media.frames[0].file).read_bytes()
    assert (call.image_tokens, call.video_tokens, call.audio_tokens) == (1120, 0, 0)


def test_frames_are_sent_as_labelled_images_with_the_sound(service, film, tmp_path):
    media = segment_of(film, 3, 6)
    _, (call,) = call_model(service, build_request(media), media_input="frames")
    *labelled, sound_label, sound = media_parts(service.bodies[0])
    # One frame per second; the first one precedes the segment and is still shown at its start.
    times_s = [float(part["text"].split()[2].removeprefix("0:")) for part in labelled[::2]]
    assert times_s == pytest.approx([0, 0, 1, 2], abs=0.05)
    assert [content_of(part) for part in labelled[1::2]] == [(media.folder / f.file).read_bytes() for f in media.frames]
    assert sound_label["text"] == "Sound of the segment:"
    assert sound_length(content_of(sound), tmp_path) == pytest.approx(3, abs=0.13)
    assert (call.image_tokens, call.video_tokens) == (4 * 1120, 0)


def test_frames_over_the_request_limit_are_not_sent(service, film, monkeypatch):
    monkeypatch.setattr(gemini, "MAX_INLINE_BYTES", 1000)
    failure, _ = call_model(service, build_request(segment_of(film)), media_input="frames")
    assert failure.code == "model_bad_request"
    assert "the media (12 frames) has" in failure.message
    assert service.ledger.calls() == []


@pytest.mark.parametrize(("fps", "expected"), [(1.0, None), (0.5, {"fps": 0.5}), (2.0, {"fps": 2.0})])
def test_frame_rate_is_sent_unless_it_is_the_default(service, film, fps, expected):
    call_model(service, build_request(segment_of(film, 0, 4)), fps=fps)
    assert media_parts(service.bodies[0])[0].get("videoMetadata") == expected


def test_instruction_schema_and_text_are_sent_in_the_expected_fields(service):
    call_model(service, build_request(text="the text", instruction="shared by all"))
    (body,) = service.bodies
    assert body["systemInstruction"]["parts"] == [{"text": "shared by all"}]
    assert body["contents"] == [{"role": "user", "parts": [{"text": "the text"}]}]
    assert body["generationConfig"]["responseMimeType"] == "application/json"
    assert body["generationConfig"]["responseJsonSchema"] == SCHEMA
    assert "tools" not in body


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"thinking_level": "low"}, {"thinkingConfig": {"thinkingLevel": "LOW"}}),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"max_output_tokens": 300}, {"maxOutputTokens": 300}),
    ],
)
def test_only_explicit_settings_are_sent(service, settings, expected):
    call_model(service, **settings)
    always = {"responseMimeType", "responseJsonSchema", "temperature", "maxOutputTokens"}
    config = service.bodies[0]["generationConfig"]
    assert set(config) == always | set(expected)
    assert {key: config[key] for key in expected} == expected


@pytest.mark.parametrize(("resolution", "tokens"), [(None, 70), ("low", 70), ("high", 280)])
def test_resolution_determines_the_tokens_of_a_frame(service, film, resolution, tokens):
    _, (call,) = call_model(service, build_request(segment_of(film, 0, 4)), media_resolution=resolution)
    assert call.video_tokens == 4 * tokens


def test_media_time_format_is_removed_from_the_sent_schema(service):
    before = json.dumps(NESTED.json_schema)
    answer_with(service, {"summary": "s", "scene": {"location": "l"}, "products": []})
    answer, _ = call_model(service, build_request(schema=NESTED.json_schema))
    assert answer.metadata["summary"] == "s"
    sent = json.dumps(service.bodies[0]["generationConfig"]["responseJsonSchema"])
    assert before.count("media-time") == 1
    assert json.loads(sent) == json.loads(before.replace(', "format": "media-time"', ""))
    assert json.dumps(NESTED.json_schema) == before


def test_cached_tokens_are_recorded(service):
    requests = [build_request(text=f"question {number}", instruction="shared " * 700) for number in range(2)]
    _, calls = call_all(service.base_url, requests, one_by_one=True)
    instruction = service.bodies[0]["systemInstruction"]
    assert [call.cached_tokens for call in calls] == [0, math.ceil(len(json.dumps(instruction)) / 4)]


def test_thoughts_are_counted_but_not_part_of_the_answer(service):
    service.set_faults(Fault(thoughts="It might be two."))
    answer, (call,) = call_model(service)
    assert answer.metadata == {"n": 1}
    assert answer.text == '{"n": 1}'
    assert call.thought_tokens == 4
    assert call.total_tokens == call.input_tokens + call.output_tokens + 4
