"""The OpenAI provider against a real server: llama.cpp with a tiny random model, whose answers the server constrains."""

import dataclasses
import json
import os

import pytest

from promptreel.providers.openai_compatible import OpenAIProvider
from promptreel.schemas.settings import ModelSettings
from promptreel.schemas.speech_rows import Word
from promptreel.testing.calls import call_provider
from promptreel.testing.sample_media import sample_segment
from tests.llama_server import LLAMA_VARIABLE, LlamaServer, find_llama_server
from tests.pipeline_runs import make_audio, make_image, make_video, promptreel
from tests.providers.gemini_calls import build_request
from tests.tiny_gguf import PICTURE_TOKENS

CLOSED = {
    "type": "object",
    "properties": {"mood": {"enum": ["calm", "tense"]}, "people": {"type": "integer"}},
    "required": ["mood", "people"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def binary():
    found = find_llama_server()
    if found is None:
        pytest.skip(f"llama-server not found: build it with tests/build_llama_server.sh or set {LLAMA_VARIABLE}")
    return found


@pytest.fixture(scope="module")
def llama(binary, tmp_path_factory):
    with LlamaServer(binary, tmp_path_factory.mktemp("llama"), sees=True) as server:
        yield server


@pytest.fixture(scope="module")
def blind_llama(binary, tmp_path_factory):
    with LlamaServer(binary, tmp_path_factory.mktemp("llama"), sees=False) as server:
        yield server


def call_model(llama, requests, **settings):
    provider = OpenAIProvider(ModelSettings(model="openai:tiny", base_url=llama.base_url, **settings))
    return call_provider(provider, requests)


def tokens_of(text):
    """Return the tokens of a text: its bytes, with spaces as the tokenizer writes them."""
    return len(text.replace(" ", "▁").encode())


def test_server_enforces_the_schema(llama):
    outcomes, calls = call_model(llama, [build_request(text=f"Question {n}", schema=CLOSED) for n in range(8)])
    assert all(outcome.metadata["mood"] in ("calm", "tense") for outcome in outcomes)
    assert {(call.status, call.request_form, call.answer_repair) for call in calls} == {
        ("success", "json_schema, max_tokens", None)
    }
    assert all(call.input_tokens > 0 and call.output_tokens > 0 and call.finish_reason == "stop" for call in calls)
    assert all(call.total_tokens == call.input_tokens + call.output_tokens for call in calls)


def test_short_budget_truncates_the_answer(llama):
    (outcome,), calls = call_model(llama, [build_request(schema=CLOSED)], max_output_tokens=1)
    assert outcome.code == "model_truncated"
    assert [(call.finish_reason, call.max_output_tokens) for call in calls] == [("length", 1), ("length", 4)]


def test_words_of_a_segment_reach_the_model(llama, tmp_path):
    segment = sample_segment(tmp_path, "audio")
    silent, spoken = (
        build_request(dataclasses.replace(segment, words=words), schema=CLOSED)
        for words in (None, (Word(0, 500_000, " Good", 0.9), Word(500_000, 900_000, " morning.", 0.9)))
    )
    _, calls = call_model(llama, [silent, spoken])
    tokens = {call.segment_id: call.input_tokens for call in calls}
    assert tokens["seg_1"] - tokens["seg_0"] == tokens_of("\nWords spoken in the segment:\n0:00.00 Good morning.")


def test_frames_of_a_segment_reach_the_model(llama, tmp_path):
    segment = sample_segment(tmp_path, "video")
    parts = [
        build_request(dataclasses.replace(segment, frames=segment.frames[:count]), schema=CLOSED) for count in (1, 3)
    ]
    outcomes, calls = call_model(llama, parts)
    assert all(outcome.metadata["mood"] in ("calm", "tense") for outcome in outcomes)
    tokens = {call.segment_id: call.input_tokens for call in calls}
    label = tokens_of("\nFrame at 0:01.00 of the segment:\n")
    assert tokens["seg_1"] - tokens["seg_0"] == pytest.approx(2 * (PICTURE_TOKENS + label), abs=4)


def test_model_without_vision_rejects_pictures_at_once(blind_llama, tmp_path):
    (outcome,), calls = call_model(blind_llama, [build_request(sample_segment(tmp_path, "image"), schema=CLOSED)])
    assert (outcome.code, len(calls)) == ("model_bad_request", 1)
    assert "image input is not supported" in outcome.message


def test_prompt_longer_than_the_context_is_rejected_at_once(llama):
    (outcome,), calls = call_model(llama, [build_request(text="word " * 4000, schema=CLOSED)])
    assert (outcome.code, len(calls)) == ("model_bad_request", 1)
    assert "context" in outcome.message


def test_run_over_a_local_server_ends_with_typed_fields(llama, tmp_path):
    media, data = tmp_path / "media", tmp_path / "data"
    media.mkdir()
    make_audio(media / "a.flac", 5)
    make_video(media / "b.mp4", 5)
    make_image(media / "c.png")
    prompt = tmp_path / "prompt.json"
    prompt.write_text(json.dumps({"name": "mood", "prompt_text": "Describe it.", "json_schema": CLOSED}))
    options = ["--prompt", prompt, "--model", "openai:tiny", "--base-url", llama.base_url, "--no-transcription"]
    code, out, err = promptreel("run", media, *options, "--data-dir", data, env=dict(os.environ))
    assert code == 0, err
    code, out, _ = promptreel("sql", "SELECT mood, people FROM fields", "--data-dir", data, "--json")
    rows = json.loads(out)
    assert len(rows) >= 3
    assert all(row["mood"] in ("calm", "tense") and isinstance(row["people"], int) for row in rows)
