"""Transcription as an operation of the pipeline: words of segments, outcomes, and what is made from the words."""

import json
import re
import shutil
import threading
import time
import wave
from collections import Counter

import numpy as np
import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.providers import local_models, whisper
from promptreel.providers.transcription import speech_of
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.segmentation import LengthBounds, SegmentationSettings
from promptreel.schemas.settings import RunSettings, TranscriptionSettings
from promptreel.tables.stop_signal import clear_stop, request_stop
from promptreel.tables.storage import open_storage
from promptreel.transforms.segment_media import read_analysis
from tests.fake_gemini import FakeGemini
from tests.media_files import RATE, silence, write_sound
from tests.pipeline_runs import (
    check_counts,
    comparable_rows,
    create_run,
    kill,
    make_image,
    make_speech,
    make_video,
    manifest_of,
    promptreel,
    run_media,
    settings_for,
    start_runner,
    wait_for,
    with_models,
)
from tests.prompts import NESTED
from tests.tiny_models import WORDS, make_whisper, real_whisper
from tests.voices import draw_voice

SENTENCE = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
SPOKEN = {
    "name": "spoken",
    "prompt_text": "Measure the segment.",
    "json_schema": {
        "type": "object",
        "properties": {
            "transcript": {"type": "string"},
            "word_count": {"type": "integer"},
            "duration_seconds": {"type": "number"},
        },
    },
}
SPOKEN_PROMPT = prompt_from_dict(SPOKEN)
# A synthesis over what is spoken and what was found.
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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Speech with and without pictures, pictures without sound, an image, and silence."""
    folder = tmp_path_factory.mktemp("media")
    make_speech(folder / "talk.mp4", 7, 1, "testsrc2=size=160x90:rate=10")
    make_speech(folder / "voice.flac", 5, 2)
    make_video(folder / "mute.mp4", 2, sound=False)
    make_image(folder / "still.png")
    write_sound(folder / "quiet.flac", silence(4))
    return folder


@pytest.fixture
def loads(monkeypatch):
    """Names of the Whisper models that are loaded while the test runs; none is there from before."""
    monkeypatch.setattr(local_models, "_models", {})
    found = []
    load = whisper._load
    monkeypatch.setattr(whisper, "_load", lambda *arguments: found.append(arguments[0].model) or load(*arguments))
    return found


def spoken_settings(model, window_s=2):
    return with_models(settings_for(window_s=window_s), whisper=model)


@pytest.fixture(scope="module")
def transcribed(media, tiny, tmp_path_factory):
    """(data folder, run id, rows by table, rows of media by name) of a run of the built-in model over all of it."""
    data = tmp_path_factory.mktemp("data")
    run_id = run_media(data, media, spoken_settings(tiny), SPOKEN_PROMPT)
    rows = check_counts(data, run_id)
    return data, run_id, rows, {row["name"]: row for row in rows["media"]}


def of_item(rows, table, media):
    found = [row for row in rows[table] if row["video_id"] == media["video_id"]]
    return sorted(found, key=lambda row: row.get("start_us") or 0)


def transcript_of_item(data, media_row, model):
    """The transcript of a whole item by the recogniser itself, over the sound that its analysis kept."""
    for path in (data / "cache" / "analysis").rglob("analysis.json"):
        analysis, folder = read_analysis(open_storage(data), path.parent.name)
        if analysis.audio_file and analysis.duration_us == media_row["duration_us"]:
            transcriber = whisper.WhisperTranscriber(TranscriptionSettings(model=str(model)))
            return transcriber.transcribe(
                folder / analysis.audio_file, speech_of(analysis.activity), analysis.duration_us
            )
    raise AssertionError(f"no analysis of {media_row['name']}")


@pytest.mark.parametrize("name", ["talk.mp4", "voice.flac"])
def test_the_words_of_an_items_segments_are_those_of_the_whole_each_once(transcribed, tiny, name):
    data, _, rows, media = transcribed
    parts = of_item(rows, "transcripts", media[name])
    segments = of_item(rows, "segments", media[name])
    assert len(parts) == len(segments) >= 3
    whole = transcript_of_item(data, media[name], tiny)
    words = [(word["start_us"], word["end_us"], word["text"]) for part in parts for word in part["words"]]
    assert words == [(word.start_us, word.end_us, word.text) for word in whole.words]
    assert len(words) >= len(WORDS)
    for part, segment in zip(parts, segments, strict=True):
        assert (part["start_us"], part["end_us"]) == (segment["start_us"], segment["end_us"])
        assert part["text"] == "".join(word["text"] for word in part["words"]).strip()
        assert part["model"] == whole.model
        assert part["language"] == ("de" if part["words"] else None)
        assert (part["language_probability"] is None) == (not part["words"])
        for word in part["words"]:
            assert part["start_us"] <= (word["start_us"] + word["end_us"]) // 2 < part["end_us"]
            assert 0 <= word["start_us"] <= word["end_us"] <= media[name]["duration_us"]


@pytest.mark.parametrize("name", ["talk.mp4", "voice.flac"])
def test_utterance_rows_account_for_all_speech(transcribed, tiny, name):
    data, _, rows, media = transcribed
    complete = transcript_of_item(data, media[name], tiny)
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


def test_speakers_on_their_own_channels_are_transcribed_apart(tiny, tmp_path):
    left = np.concatenate([draw_voice(3, 1).samples, silence(5)])
    right = np.concatenate([silence(len(left) / RATE - 4), draw_voice(3, 2).samples])
    length = min(len(left), len(right))
    (tmp_path / "media").mkdir()
    with wave.open(str(tmp_path / "media" / "call.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.stack([left[:length], right[:length]], axis=1).astype("<i2").tobytes())
    run_id = run_media(tmp_path / "data", tmp_path / "media", spoken_settings(tiny, 30), SPOKEN_PROMPT)
    rows = check_counts(tmp_path / "data", run_id)
    found = sorted(rows["utterances"], key=lambda row: row["start_us"])
    assert {row["channel"] for row in found} == {0, 1}
    for row in found:
        spoken = (left, right)[row["channel"]][row["start_us"] * RATE // 1_000_000 : row["end_us"] * RATE // 1_000_000]
        assert np.abs(spoken.astype(float)).mean() > 50
    (transcript,) = rows["transcripts"]
    assert len(transcript["words"]) > len(WORDS)  # one channel alone has fewer


def test_transcription_applies_to_items_with_sound_alone(transcribed):
    _, _, rows, media = transcribed
    found = {row["name"]: Counter() for row in rows["media"]}
    names = {row["video_id"]: row["name"] for row in rows["media"]}
    for row in rows["segments"]:
        found[names[row["video_id"]]][row["transcription"]] += 1
        assert row["status"] == "succeeded"
    assert set(found["mute.mp4"]) == set(found["still.png"]) == {None}
    for name in ("talk.mp4", "voice.flac", "quiet.flac"):
        assert set(found[name]) == {"succeeded"}
    assert not any(row["warnings"] for row in rows["media"])
    assert {name for name in names.values() if not of_item(rows, "transcripts", media[name])} == {
        "mute.mp4",
        "still.png",
    }


def test_the_built_in_model_waits_for_the_transcript_and_measures_it(transcribed):
    _, _, rows, media = transcribed
    spoken = {row["segment_id"]: row for row in rows["transcripts"]}
    said = Counter()
    for row in rows["results"]:
        assert row["warning"] is None
        metadata = json.loads(row["metadata"])
        part = spoken.get(row["segment_id"])
        assert metadata.get("transcript") == (None if part is None else part["text"])
        assert metadata.get("word_count") == (None if part is None else len(part["words"]))
        said["with words"] += bool(part and part["words"])
    assert said["with words"] >= 4
    assert {row["text"] for row in of_item(rows, "transcripts", media["quiet.flac"])} == {""}


def test_silence_gives_empty_transcripts_and_the_model_is_not_loaded(media, tiny, tmp_path, loads):
    run_id = run_media(tmp_path, media / "quiet.flac", spoken_settings(tiny), SPOKEN_PROMPT)
    rows = check_counts(tmp_path, run_id)
    assert loads == []
    assert [(row["text"], row["language"], row["words"]) for row in rows["transcripts"]] == [("", None, [])] * 2
    assert manifest_of(tmp_path, run_id).counts["transcription.succeeded"] == 2


def test_the_model_is_loaded_once_for_all_items_and_a_second_run_loads_nothing(media, tiny, tmp_path, loads):
    first = run_media(tmp_path, media, spoken_settings(tiny), SPOKEN_PROMPT)
    assert loads == [str(tiny)]
    loads.clear()
    local_models._models.clear()
    second = run_media(tmp_path, media, spoken_settings(tiny), SPOKEN_PROMPT)
    assert loads == []
    assert comparable_rows(tmp_path, first) == comparable_rows(tmp_path, second)
    counts = manifest_of(tmp_path, second).counts
    assert counts["results.reused"] == counts["results.total"]


def test_a_synthesis_that_includes_the_transcription_is_sent_the_words(media, tiny, tmp_path):
    with FakeGemini() as server:
        settings = with_models(settings_for(server, window_s=3), whisper=tiny)
        run_id = run_media(tmp_path, media / "talk.mp4", settings, READS_SPEECH)
        rows = check_counts(tmp_path, run_id)
        asked = [entry.text for entry in server.ledger.calls() if "Sum the item up." in entry.text]
    (text,) = asked
    parts = sorted(rows["transcripts"], key=lambda row: row["start_us"])
    assert [line.removeprefix("transcription: ") for line in text.splitlines() if "transcription: " in line] == [
        row["text"] for row in parts if row["text"]
    ]
    assert WORDS[0].strip() in text
    assert rows["video_results"][0]["template_fields"] == ["summary", "transcription"]


def test_other_models_are_asked_without_waiting_for_the_transcript(media, tiny, tmp_path):
    with FakeGemini() as server:
        settings = with_models(settings_for(server), whisper=tiny)
        run_id = run_media(tmp_path, media / "voice.flac", settings, NESTED)
        first = server.ledger.calls()[0].arrived_at
    began = time.time() - (time.monotonic() - first)
    (kept,) = [path for path in operations(tmp_path) if '"transcript"' in path.read_text()]
    assert began < kept.stat().st_mtime
    assert check_counts(tmp_path, run_id)["transcripts"]


def operations(data):
    return list((data / "cache" / "operations").rglob("*.json"))


def test_missing_weights_leave_transcripts_out_with_a_warning_that_names_the_fix(media, tmp_path):
    words = ["run", media, "--data-dir", tmp_path, "--model", "signals", "--video-segmentation", "fixed"]
    words += ["--video-segment-seconds", 4, "--no-image-embedding", "--no-text-embedding", "--json"]
    missing = ["--transcription-model", "/nowhere/whisper"]
    code, out, err = promptreel(*words, *missing)
    assert code == 0, err
    said = json.loads(out)
    (warning,) = said["warnings"]
    assert warning == "no transcription: there is no folder /nowhere/whisper; check the path"
    rows = check_counts(tmp_path, said["run_id"])
    assert {row["name"]: row["warnings"] for row in rows["media"]} == {
        "talk.mp4": [warning], "voice.flac": [warning], "quiet.flac": [warning], "mute.mp4": [], "still.png": [],
    }  # fmt: skip
    assert {row["transcription"] for row in rows["segments"]} == {None}
    assert rows["transcripts"] == []

    code, out, err = promptreel(*words, *missing, "--strict-models")
    assert (code, out) == (2, "")
    assert "strict_models: no transcription: there is no folder /nowhere/whisper; check the path" in err
    assert len(list((tmp_path / "runs").iterdir())) == 1

    code, out, err = promptreel(*words, *missing, "--strict-models", "--no-transcription")
    assert (code, json.loads(out)["warnings"]) == (0, []), err


@pytest.fixture
def corrupt(tmp_path, tiny):
    folder = shutil.copytree(tiny, tmp_path / "corrupt")
    whole = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(whole[: len(whole) // 2])
    return folder


def test_corrupt_weights_fail_transcription_alone(media, tmp_path, corrupt):
    run_id = run_media(tmp_path / "data", media, spoken_settings(corrupt), SPOKEN_PROMPT)
    rows = check_counts(tmp_path / "data", run_id)
    assert {(row["operation"], row["code"]) for row in rows["failures"]} == {("transcription", "weights_missing")}
    assert all(str(corrupt) in row["message"] for row in rows["failures"])
    assert all(row["field_extraction"] == "succeeded" for row in rows["segments"])
    manifest = manifest_of(tmp_path / "data", run_id)
    assert manifest.status == "completed_with_failures"
    assert f"{len(rows['failures'])} x weights_missing" in manifest.error_message
    names = {row["video_id"]: row["name"] for row in rows["media"]}
    # Where nobody speaks no model is needed.
    assert {names[row["video_id"]] for row in rows["failures"]} == {"talk.mp4", "voice.flac"}
    for row in rows["results"]:
        spoken = row["warning"] == "no transcript: see `promptreel doctor`"
        assert spoken == (names[row["video_id"]] in ("talk.mp4", "voice.flac"))


def test_fields_that_were_measured_without_a_transcript_are_measured_again_once_it_is_there(
    media, tmp_path, tiny, monkeypatch
):
    pulled = tmp_path / "models" / "models--Systran--faster-whisper-base"  # as the hub's library keeps it
    snapshot = pulled / "snapshots" / ("0" * 40)
    shutil.copytree(tiny, snapshot)
    (pulled / "refs").mkdir()
    (pulled / "refs" / "main").write_text("0" * 40)
    whole = (snapshot / "model.bin").read_bytes()
    (snapshot / "model.bin").write_bytes(whole[:1000])
    monkeypatch.setenv("PROMPTREEL_MODELS", str(tmp_path / "models"))
    data = tmp_path / "data"
    run_id = run_media(data, media / "voice.flac", spoken_settings("base"), SPOKEN_PROMPT)
    before = check_counts(data, run_id)
    assert {row["code"] for row in before["failures"]} == {"weights_missing"}
    (snapshot / "model.bin").write_bytes(whole)  # pulled again: the model's name is the same
    execute_run(str(data), run_id)
    rows = check_counts(data, run_id)
    assert manifest_of(data, run_id).status == "completed"
    texts = {row["segment_id"]: row["text"] for row in rows["transcripts"]}
    assert any(texts.values())
    assert {row["segment_id"]: json.loads(row["metadata"])["transcript"] for row in rows["results"]} == texts


@pytest.fixture(scope="module")
def long_voices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    for number in range(3):
        make_speech(folder / f"{number}.flac", 35, number + 1)
    return folder


@pytest.fixture(scope="module")
def undisturbed(long_voices, tiny, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    run_id = run_media(data, long_voices, spoken_settings(tiny, 10), SPOKEN_PROMPT)
    return comparable_rows(data, run_id)


def test_a_run_that_is_killed_while_it_transcribes_is_resumed_to_the_same_tables(
    tmp_path, long_voices, tiny, undisturbed
):
    run_id = create_run(tmp_path, long_voices, spoken_settings(tiny, 10), SPOKEN_PROMPT)
    child = start_runner(tmp_path, run_id)
    wait_for(lambda: child.poll() is not None or operations(tmp_path))
    kill(child)
    kept = {path: path.stat().st_mtime_ns for path in operations(tmp_path)}
    assert manifest_of(tmp_path, run_id) is None
    assert kept
    execute_run(str(tmp_path), run_id)
    assert comparable_rows(tmp_path, run_id) == undisturbed
    check_counts(tmp_path, run_id)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_stop_while_transcribing_cancels_what_is_left_and_a_resume_finishes_it(
    tmp_path, long_voices, tiny, undisturbed, monkeypatch
):
    run_id = create_run(tmp_path, long_voices, spoken_settings(tiny, 10), SPOKEN_PROMPT)
    storage = open_storage(tmp_path)
    recognise, batches = whisper._recognise_batch, []

    def recognise_and_stop(*arguments):
        found = recognise(*arguments)
        batches.append(len(found))
        if len(batches) == 1:
            request_stop(storage, run_id, "test")
            threading.Event().wait(0.6)  # the stop file is looked for twice a second
        return found

    with monkeypatch.context() as patch:
        patch.setattr(whisper, "_recognise_batch", recognise_and_stop)
        patch.setattr(whisper, "BATCH", 1)
        execute_run(str(tmp_path), run_id)
    assert len(batches) == 1  # the next one was not begun
    rows = check_counts(tmp_path, run_id)
    counts = manifest_of(tmp_path, run_id).counts
    assert manifest_of(tmp_path, run_id).status == "cancelled"
    ended = Counter(row["transcription"] for row in rows["segments"])
    assert ended["cancelled"] >= 3
    assert set(ended) <= {"cancelled", "succeeded"}
    assert counts["transcription.cancelled"] == ended["cancelled"]
    assert rows["failures"] == rows["transcripts"] == []
    assert sum(counts.get(f"media.{name}", 0) for name in ("completed", "partial", "failed", "cancelled")) == 3

    clear_stop(storage, run_id)
    execute_run(str(tmp_path), run_id)
    assert manifest_of(tmp_path, run_id).status == "completed"
    assert comparable_rows(tmp_path, run_id) == undisturbed


@pytest.mark.weights
def test_real_words_stand_once_in_the_segments_whose_edges_lie_between_them(real_media, tmp_path):
    weights = real_whisper()
    lengths = LengthBounds(2_000_000, 4_000_000, 8_000_000)
    with FakeGemini() as server:
        base = settings_for(server)
        segmentation = SegmentationSettings("fixed", "content_aware", 4, pause_lengths=lengths)
        settings = with_models(RunSettings(segmentation, model=base.model), whisper=weights)
        run_id = run_media(tmp_path, real_media("jfk.flac"), settings, READS_SPEECH)
        rows = check_counts(tmp_path, run_id)
        (asked,) = [entry.text for entry in server.ledger.calls() if "Sum the item up." in entry.text]
    parts = sorted(rows["transcripts"], key=lambda row: row["start_us"])
    assert len(parts) >= 2
    assert heard(" ".join(row["text"] for row in parts)) == SENTENCE
    assert heard(" ".join(re.findall(r"transcription: (.*)", asked))) == SENTENCE
    assert {row["language"] for row in parts} == {"en"}
    words = [word for row in parts for word in row["words"]]
    (media,) = rows["media"]
    for row in parts:
        for word in words:
            assert not word["start_us"] < row["end_us"] < word["end_us"], (word, row["end_us"])
    assert all(0 <= word["start_us"] < word["end_us"] <= media["duration_us"] for word in words)
    assert [word["start_us"] for word in words] == sorted(word["start_us"] for word in words)


def heard(text):
    return " ".join(re.findall(r"[a-z']+", text.lower()))
