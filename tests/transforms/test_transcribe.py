"""Transcription in the pipeline: words and utterances of segments, and their use by models."""

import json
import re
import time
import wave
from collections import Counter

import numpy as np
import pytest

from promptreel.providers import local_models, whisper
from promptreel.providers.transcription import speech_of
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.segmentation import LengthBounds, SegmentationSettings
from promptreel.schemas.settings import RunSettings, TranscriptionSettings
from promptreel.tables.storage import open_storage
from promptreel.transforms.segment_media import read_analysis
from tests.fake_gemini import FakeGemini
from tests.media_files import RATE, silence
from tests.pipeline_runs import (
    check_counts,
    comparable_rows,
    manifest_of,
    run_media,
    settings_for,
    with_models,
)
from tests.prompts import NESTED
from tests.tiny_models import WORDS, real_whisper
from tests.transforms.transcription_runs import SPOKEN_PROMPT, stored_operations, transcription_settings
from tests.voices import draw_voice

SENTENCE = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
# A synthesis that reads transcripts and a segment field.
READS_SPEECH = prompt_from_dict(
    {
        **NESTED.to_dict(),
        "video_level": {
            "instructions_text": "Sum the item up.",
            "included_segment_fields": ["summary", "transcription"],
            "json_schema": {"type": "object", "properties": {"topic": {"type": "string"}}},
        },
    }
)


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")


@pytest.fixture
def loads(monkeypatch):
    """Record the names of the Whisper models loaded during the test, which starts with none loaded."""
    monkeypatch.setattr(local_models, "_models", {})
    names = []
    load = whisper._load
    monkeypatch.setattr(whisper, "_load", lambda *arguments: names.append(arguments[0].model) or load(*arguments))
    return names


@pytest.fixture(scope="module")
def transcribed(media, tiny_whisper, tmp_path_factory):
    """(data folder, run id, rows by table, media rows by name) of a run of the built-in model over all media."""
    data = tmp_path_factory.mktemp("data")
    run_id = run_media(data, media, transcription_settings(tiny_whisper), SPOKEN_PROMPT)
    rows = check_counts(data, run_id)
    return data, run_id, rows, {row["name"]: row for row in rows["media"]}


def of_item(rows, table, media):
    found = [row for row in rows[table] if row["video_id"] == media["video_id"]]
    return sorted(found, key=lambda row: row.get("start_us") or 0)


def transcript_of_item(data, media_row, model):
    """Transcribe the audio of an item's analysis directly, without the pipeline."""
    for path in (data / "cache" / "analysis").rglob("analysis.json"):
        analysis, folder = read_analysis(open_storage(data), path.parent.name)
        if analysis.audio_file and analysis.duration_us == media_row["duration_us"]:
            transcriber = whisper.WhisperTranscriber(TranscriptionSettings(model=str(model)))
            return transcriber.transcribe(
                folder / analysis.audio_file, speech_of(analysis.activity), analysis.duration_us
            )
    raise AssertionError(f"no analysis of {media_row['name']}")


@pytest.mark.parametrize("name", ["talk.mp4", "voice.flac"])
def test_segments_contain_each_word_of_the_item_once(transcribed, tiny_whisper, name):
    data, _, rows, media = transcribed
    parts = of_item(rows, "transcripts", media[name])
    segments = of_item(rows, "segments", media[name])
    assert len(parts) == len(segments) >= 3
    complete = transcript_of_item(data, media[name], tiny_whisper)
    words = [(word["start_us"], word["end_us"], word["text"]) for part in parts for word in part["words"]]
    assert words == [(word.start_us, word.end_us, word.text) for word in complete.words]
    assert len(words) >= len(WORDS)
    for part, segment in zip(parts, segments, strict=True):
        assert (part["start_us"], part["end_us"]) == (segment["start_us"], segment["end_us"])
        assert part["text"] == "".join(word["text"] for word in part["words"]).strip()
        assert part["model"] == complete.model
        assert part["language"] == ("de" if part["words"] else None)
        assert (part["language_probability"] is None) == (not part["words"])
        for word in part["words"]:
            assert part["start_us"] <= (word["start_us"] + word["end_us"]) // 2 < part["end_us"]
            assert 0 <= word["start_us"] <= word["end_us"] <= media[name]["duration_us"]


@pytest.mark.parametrize("name", ["talk.mp4", "voice.flac"])
def test_utterance_rows_account_for_all_speech(transcribed, tiny_whisper, name):
    data, _, rows, media = transcribed
    complete = transcript_of_item(data, media[name], tiny_whisper)
    found = of_item(rows, "utterances", media[name])
    assert [row["text"] for row in found if row["dropped_reason"] is None]
    assert {row["start_us"] for row in found} >= {part.start_us for part in complete.utterances}
    assert {row["end_us"] for row in found} >= {part.end_us for part in complete.utterances}
    segments = {row["segment_id"]: row for row in rows["segments"]}
    for row in found:
        segment = segments[row["segment_id"]]
        assert segment["start_us"] <= (row["start_us"] + row["end_us"]) // 2 < segment["end_us"]
        assert (row["language"], row["text"] == "") == ("de", row["dropped_reason"] == "not_recognized")
    words = [word["text"] for part in of_item(rows, "transcripts", media[name]) for word in part["words"]]
    assert sum(len(row["text"].split()) for row in found if row["dropped_reason"] is None) == len(words)


def test_speakers_on_their_own_channels_are_transcribed_apart(tiny_whisper, tmp_path):
    left = np.concatenate([draw_voice(3, 1).samples, silence(5)])
    right = np.concatenate([silence(len(left) / RATE - 4), draw_voice(3, 2).samples])
    length = min(len(left), len(right))
    (tmp_path / "media").mkdir()
    with wave.open(str(tmp_path / "media" / "call.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.stack([left[:length], right[:length]], axis=1).astype("<i2").tobytes())
    run_id = run_media(tmp_path / "data", tmp_path / "media", transcription_settings(tiny_whisper, 30), SPOKEN_PROMPT)
    rows = check_counts(tmp_path / "data", run_id)
    found = sorted(rows["utterances"], key=lambda row: row["start_us"])
    assert {row["channel"] for row in found} == {0, 1}
    for row in found:
        spoken = (left, right)[row["channel"]][row["start_us"] * RATE // 1_000_000 : row["end_us"] * RATE // 1_000_000]
        assert np.abs(spoken.astype(float)).mean() > 50
    (transcript,) = rows["transcripts"]
    assert len(transcript["words"]) > len(WORDS)  # one channel alone has fewer


def test_transcription_only_applies_to_items_with_sound(transcribed):
    _, _, rows, media = transcribed
    outcomes = {row["name"]: Counter() for row in rows["media"]}
    names = {row["video_id"]: row["name"] for row in rows["media"]}
    for row in rows["segments"]:
        outcomes[names[row["video_id"]]][row["transcription"]] += 1
        assert row["status"] == "succeeded"
    assert set(outcomes["mute.mp4"]) == set(outcomes["still.png"]) == {None}
    for name in ("talk.mp4", "voice.flac", "quiet.flac"):
        assert set(outcomes[name]) == {"succeeded"}
    warnings = {row["name"]: row["warnings"] for row in rows["media"] if row["warnings"]}
    assert warnings == {name: ["no transcription: the item has no sound"] for name in ("mute.mp4", "still.png")}
    assert {name for name in names.values() if not of_item(rows, "transcripts", media[name])} == {
        "mute.mp4",
        "still.png",
    }


def test_built_in_model_waits_for_the_transcript(transcribed):
    _, _, rows, media = transcribed
    transcripts = {row["segment_id"]: row for row in rows["transcripts"]}
    with_words = 0
    for row in rows["results"]:
        assert row["warning"] is None
        metadata = json.loads(row["metadata"])
        part = transcripts.get(row["segment_id"])
        assert metadata.get("transcript") == (None if part is None else part["text"])
        assert metadata.get("word_count") == (None if part is None else len(part["words"]))
        with_words += bool(part and part["words"])
    assert with_words >= 4
    assert {row["text"] for row in of_item(rows, "transcripts", media["quiet.flac"])} == {""}


def test_silence_has_empty_transcripts_without_loading_the_model(media, tiny_whisper, tmp_path, loads):
    run_id = run_media(tmp_path, media / "quiet.flac", transcription_settings(tiny_whisper), SPOKEN_PROMPT)
    rows = check_counts(tmp_path, run_id)
    assert loads == []
    assert [(row["text"], row["language"], row["words"]) for row in rows["transcripts"]] == [("", None, [])] * 2
    assert manifest_of(tmp_path, run_id).counts["transcription.succeeded"] == 2


def test_model_is_loaded_once_and_second_run_reuses_results(media, tiny_whisper, tmp_path, loads):
    first = run_media(tmp_path, media, transcription_settings(tiny_whisper), SPOKEN_PROMPT)
    assert loads == [str(tiny_whisper)]
    loads.clear()
    local_models._models.clear()
    second = run_media(tmp_path, media, transcription_settings(tiny_whisper), SPOKEN_PROMPT)
    assert loads == []
    assert comparable_rows(tmp_path, first) == comparable_rows(tmp_path, second)
    counts = manifest_of(tmp_path, second).counts
    assert counts["results.reused"] == counts["results.total"]


def test_synthesis_that_includes_transcription_receives_the_words(media, tiny_whisper, tmp_path):
    with FakeGemini() as server:
        settings = with_models(settings_for(server, window_s=3), whisper=tiny_whisper)
        run_id = run_media(tmp_path, media / "talk.mp4", settings, READS_SPEECH)
        rows = check_counts(tmp_path, run_id)
        (text,) = [entry.text for entry in server.ledger.calls() if "Sum the item up." in entry.text]
    parts = sorted(rows["transcripts"], key=lambda row: row["start_us"])
    assert [line.removeprefix("transcription: ") for line in text.splitlines() if "transcription: " in line] == [
        row["text"] for row in parts if row["text"]
    ]
    assert WORDS[0].strip() in text
    assert rows["video_results"][0]["template_fields"] == ["summary", "transcription"]


def test_other_models_are_called_before_the_transcript_is_stored(media, tiny_whisper, tmp_path):
    with FakeGemini() as server:
        settings = with_models(settings_for(server), whisper=tiny_whisper)
        run_id = run_media(tmp_path, media / "voice.flac", settings, NESTED)
        first = server.ledger.calls()[0].arrived_at
    first_call_time = time.time() - (time.monotonic() - first)
    (stored,) = [path for path in stored_operations(tmp_path) if '"transcript"' in path.read_text()]
    assert first_call_time < stored.stat().st_mtime
    assert check_counts(tmp_path, run_id)["transcripts"]


@pytest.mark.weights
def test_real_words_occur_once_and_no_boundary_cuts_one(real_media, tmp_path):
    weights = real_whisper()
    lengths = LengthBounds(2_000_000, 4_000_000, 8_000_000)
    with FakeGemini() as server:
        base = settings_for(server)
        segmentation = SegmentationSettings("fixed", "content_aware", 4, pause_lengths=lengths)
        settings = with_models(RunSettings(segmentation, model=base.model), whisper=weights)
        run_id = run_media(tmp_path, real_media("jfk.flac"), settings, READS_SPEECH)
        rows = check_counts(tmp_path, run_id)
        (synthesis_text,) = [entry.text for entry in server.ledger.calls() if "Sum the item up." in entry.text]
    parts = sorted(rows["transcripts"], key=lambda row: row["start_us"])
    assert len(parts) >= 2
    assert normalized_words(" ".join(row["text"] for row in parts)) == SENTENCE
    assert normalized_words(" ".join(re.findall(r"transcription: (.*)", synthesis_text))) == SENTENCE
    assert {row["language"] for row in parts} == {"en"}
    words = [word for row in parts for word in row["words"]]
    (media,) = rows["media"]
    for row in parts:
        for word in words:
            assert not word["start_us"] < row["end_us"] < word["end_us"], (word, row["end_us"])
    assert all(0 <= word["start_us"] < word["end_us"] <= media["duration_us"] for word in words)
    assert [word["start_us"] for word in words] == sorted(word["start_us"] for word in words)


def normalized_words(text):
    return " ".join(re.findall(r"[a-z']+", text.lower()))
