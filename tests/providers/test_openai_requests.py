"""The requests of the OpenAI provider, as a server receives them through the real client, and its answers."""

import base64
import dataclasses
import io
import logging
import wave

import pytest

from promptreel.providers.openai_compatible import OpenAIProvider
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import ModelSettings
from promptreel.schemas.speech_rows import Word
from promptreel.testing.calls import call_provider
from tests.analysed_media import segment_of
from tests.fake_gemini import Fault
from tests.fake_openai import FakeOpenAI, Supports
from tests.fake_openai.server import parts_of
from tests.providers.gemini_calls import build_request


@pytest.fixture(scope="module")
def openai_server():
    with FakeOpenAI() as server:
        yield server


@pytest.fixture
def chat(openai_server):
    """The fake server without state of earlier tests, supporting everything."""
    openai_server.set_faults()
    openai_server.service.clear()
    openai_server.service.supports = Supports()
    openai_server.service.answer = lambda body, schema: {"n": 1}
    return openai_server


def provider_of(chat, model="openai:tiny", **settings):
    return OpenAIProvider(ModelSettings(model=model, base_url=chat.base_url, **settings))


def call_model(chat, request=None, **settings):
    (outcome,), calls = call_provider(provider_of(chat, **settings), [request or build_request()])
    return outcome, calls


def test_request_has_schema_limit_and_temperature(chat):
    answer, (call,) = call_model(chat, temperature=0.5, max_output_tokens=100, thinking_level="low")
    assert answer.metadata == {"n": 1}
    (body,) = chat.service.bodies
    assert body["messages"] == [
        {"role": "system", "content": "instruction"},
        {"role": "user", "content": "question"},
    ]
    assert body["model"] == "tiny"
    assert body["response_format"]["json_schema"]["schema"] == build_request().json_schema
    assert (body["max_tokens"], body["temperature"], body["reasoning_effort"]) == (100, 0.5, "low")
    assert (call.model, call.model_version) == ("openai:tiny", "tiny-2026")


def test_frames_are_sent_with_their_times(chat, film):
    call_model(chat, build_request(segment_of(film, 3, 6)), media_resolution="low")
    *parts, text = parts_of(chat.service.bodies[0])
    assert text == {"type": "text", "text": "question"}
    frames = segment_of(film, 3, 6).frames
    times_s = [max(0, frame.time_us / 1e6 - 3) for frame in frames]
    assert [part["text"] for part in parts[::2]] == [f"Frame at 0:{time_s:05.2f} of the segment:" for time_s in times_s]
    assert len(frames) >= 3
    assert {part["image_url"]["detail"] for part in parts[1::2]} == {"low"}


def test_hearing_model_gets_the_sound(chat, tone):
    provider = provider_of(chat, "openai:gpt-4o-audio-preview")
    call_provider(provider, [build_request(segment_of(tone, 2, 5))])
    label, sound, _ = parts_of(chat.service.bodies[0])
    assert label["text"] == "Sound of the segment:"
    assert sound["input_audio"]["format"] == "wav"
    with wave.open(io.BytesIO(base64.b64decode(sound["input_audio"]["data"]))) as file:
        assert (file.getnframes() / file.getframerate(), file.getnchannels()) == (3.0, 1)


def test_other_models_get_the_words_with_their_times(chat, tone):
    words = tuple(
        Word(start_us, start_us + 300_000, text, 0.9)
        for start_us, text in [(2_100_000, " Good"), (2_500_000, " morning,"), (4_000_000, " everyone.")]
    )
    provider = provider_of(chat)
    assert provider.reads_transcript(None)
    assert not provider_of(chat, "openai:gpt-4o-audio-preview").reads_transcript(None)
    call_provider(provider, [build_request(dataclasses.replace(segment_of(tone, 2, 5), words=words))])
    spoken, _ = parts_of(chat.service.bodies[0])
    assert spoken["text"] == "Words spoken in the segment:\n0:00.10 Good morning,\n0:02.00 everyone."


@pytest.mark.parametrize(
    ("supports", "rejected", "form"),
    [
        (Supports(), 0, "json_schema, max_tokens"),
        (Supports(structures=("json_object",)), 1, "json_object, max_tokens"),
        (Supports(structures=()), 2, "prompt, max_tokens"),
        (Supports(token_limits=("max_completion_tokens",)), 1, "json_schema, max_completion_tokens"),
        (Supports(temperature=False), 1, "json_schema, max_tokens, no temperature"),
        (
            Supports(structures=(), token_limits=("max_completion_tokens",), temperature=False),
            4,
            "prompt, max_completion_tokens, no temperature",
        ),
    ],
)
def test_supported_form_is_found_once_and_recorded(chat, caplog, supports, rejected, form):
    caplog.set_level(logging.WARNING)
    chat.service.supports = supports
    chat.service.answer = None
    requests = [build_request(text=f"question {number}") for number in range(5)]
    outcomes, calls = call_provider(provider_of(chat), requests, one_by_one=True)
    assert all(isinstance(outcome.metadata["n"], int) for outcome in outcomes)
    assert len(chat.service.bodies) == len(calls) == 5
    assert len(chat.ledger.calls()) == 5 + rejected
    assert {(call.request_form, call.max_output_tokens) for call in calls} == {(form, 8192)}
    assert caplog.text.count("requests are now sent as") == rejected


def test_ignored_schema_moves_into_the_prompt(chat):
    chat.service.supports = Supports(structures=(), ignores_rest=True)
    chat.service.answer = None
    requests = [build_request(text=f"question {number}") for number in range(3)]
    outcomes, _ = call_provider(provider_of(chat), requests, one_by_one=True)
    assert all(isinstance(outcome.metadata["n"], int) for outcome in outcomes)
    assert len(chat.service.bodies) == 4  # the first answer showed it


def test_usage_separates_reasoning_from_the_answer(chat):
    chat.set_faults(Fault(thoughts="hm " * 40))
    _, (call,) = call_model(chat)
    assert (call.thought_tokens, call.cached_tokens) == (30, 3)
    assert call.total_tokens == call.input_tokens + call.output_tokens + call.thought_tokens
    assert call.output_tokens == 2


@pytest.mark.parametrize(
    "message",
    [
        "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        "audio input is not supported by this model",
    ],
)
def test_input_that_a_model_does_not_take_is_no_outage(chat, message):
    chat.set_faults(Fault(status=500, message=message))  # llama.cpp
    failure, calls = call_model(chat)
    assert (failure.code, failure.retryable, len(calls)) == ("model_bad_request", False, 1)


def test_key_is_sent_if_set(chat, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "made-up")
    call_model(chat)
    monkeypatch.delenv("OPENAI_API_KEY")
    call_model(chat)
    assert chat.service.keys[-2:] == ["Bearer made-up", "Bearer none"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "openai:gpt-5-mini"}, "needs a key: set OPENAI_API_KEY, or --base-url"),
        ({"model": "openai:", "base_url": "http://x"}, "'openai:' has no name"),
        ({"model": "openai:a", "base_url": "http://x", "media_input": "files"}, "use frames"),
        ({"model": "openai:a", "base_url": "http://x", "thinking_budget": 0}, "use --thinking-level"),
    ],
)
def test_impossible_settings_are_rejected(monkeypatch, settings, message):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(SettingsError, match=message):
        OpenAIProvider(ModelSettings(**settings)).check_access()


def test_servers_and_models_have_different_keys():
    settings = [{"model": "openai:a"}, {"model": "openai:a", "base_url": "http://x/v1"}, {"model": "openai:b"}]
    fingerprints = [OpenAIProvider(ModelSettings(**part)).fingerprint() for part in settings]
    assert len({tuple(sorted(part.items(), key=str)) for part in fingerprints}) == 3
    same = OpenAIProvider(ModelSettings(model="openai:a", base_url="http://x/v1/")).fingerprint()
    assert same == fingerprints[1]
