"""Transcription with missing or corrupt weights, and interrupted by a crash or a stop."""

import json
import shutil
import threading
from collections import Counter

import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.providers import whisper
from promptreel.tables.stop_signal import clear_stop, request_stop
from promptreel.tables.storage import open_storage
from tests.pipeline_runs import (
    check_counts,
    comparable_rows,
    create_run,
    kill,
    make_speech,
    manifest_of,
    promptreel,
    run_media,
    start_runner,
    wait_for,
)
from tests.transforms.transcription_runs import SPOKEN_PROMPT, stored_operations, transcription_settings


def test_missing_weights_skip_transcription_with_a_warning(media, tmp_path):
    words = ["run", media, "--data-dir", tmp_path, "--model", "signals", "--video-segmentation", "fixed"]
    words += ["--video-segment-seconds", 4, "--no-image-embedding", "--no-text-embedding", "--json"]
    missing = ["--transcription-model", "/nowhere/whisper"]
    code, out, err = promptreel(*words, *missing)
    assert code == 0, err
    summary = json.loads(out)
    (warning,) = summary["warnings"]
    assert warning == "no transcription: /nowhere/whisper does not exist; check the path"
    rows = check_counts(tmp_path, summary["run_id"])
    assert {row["name"]: row["warnings"] for row in rows["media"]} == {
        "talk.mp4": [warning], "voice.flac": [warning], "quiet.flac": [warning],
        "mute.mp4": ["no transcription: the item has no sound"],
        "still.png": ["no transcription: the item has no sound"],
    }  # fmt: skip
    assert {row["transcription"] for row in rows["segments"]} == {None, "unavailable"}
    assert rows["transcripts"] == []

    code, out, err = promptreel(*words, *missing, "--strict-models")
    assert (code, out) == (2, "")
    assert "strict_models: no transcription: /nowhere/whisper does not exist; check the path" in err
    assert len(list((tmp_path / "runs").iterdir())) == 1

    code, out, err = promptreel(*words, *missing, "--strict-models", "--no-transcription")
    assert (code, json.loads(out)["warnings"]) == (0, []), err


@pytest.fixture
def corrupt(tmp_path, tiny_whisper):
    folder = shutil.copytree(tiny_whisper, tmp_path / "corrupt")
    complete = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(complete[: len(complete) // 2])
    return folder


def test_corrupt_weights_only_fail_transcription(media, tmp_path, corrupt):
    run_id = run_media(tmp_path / "data", media, transcription_settings(corrupt), SPOKEN_PROMPT)
    rows = check_counts(tmp_path / "data", run_id)
    assert {(row["operation"], row["code"]) for row in rows["failures"]} == {("transcription", "weights_missing")}
    assert all(str(corrupt) in row["message"] for row in rows["failures"])
    assert all(row["field_extraction"] == "succeeded" for row in rows["segments"])
    manifest = manifest_of(tmp_path / "data", run_id)
    assert manifest.status == "completed_with_failures"
    assert f"{len(rows['failures'])} x weights_missing" in manifest.error_message
    names = {row["video_id"]: row["name"] for row in rows["media"]}
    # Items without speech need no model.
    assert {names[row["video_id"]] for row in rows["failures"]} == {"talk.mp4", "voice.flac"}
    for row in rows["results"]:
        lacks_transcript = row["warning"] == "no transcript: see `promptreel doctor`"
        assert lacks_transcript == (names[row["video_id"]] in ("talk.mp4", "voice.flac"))


def test_fields_are_measured_again_once_a_transcript_exists(media, tmp_path, tiny_whisper, monkeypatch):
    pulled = tmp_path / "models" / "models--Systran--faster-whisper-base"  # layout of the hub library's cache
    snapshot = pulled / "snapshots" / ("0" * 40)
    shutil.copytree(tiny_whisper, snapshot)
    (pulled / "refs").mkdir()
    (pulled / "refs" / "main").write_text("0" * 40)
    complete = (snapshot / "model.bin").read_bytes()
    (snapshot / "model.bin").write_bytes(complete[:1000])
    monkeypatch.setenv("PROMPTREEL_MODELS", str(tmp_path / "models"))
    data = tmp_path / "data"
    run_id = run_media(data, media / "voice.flac", transcription_settings("base"), SPOKEN_PROMPT)
    before = check_counts(data, run_id)
    assert {row["code"] for row in before["failures"]} == {"weights_missing"}
    (snapshot / "model.bin").write_bytes(complete)  # pulled again under the same name
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
def uninterrupted(long_voices, tiny_whisper, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    run_id = run_media(data, long_voices, transcription_settings(tiny_whisper, 10), SPOKEN_PROMPT)
    return comparable_rows(data, run_id)


def test_run_killed_while_transcribing_resumes_to_the_same_tables(tmp_path, long_voices, tiny_whisper, uninterrupted):
    run_id = create_run(tmp_path, long_voices, transcription_settings(tiny_whisper, 10), SPOKEN_PROMPT)
    child = start_runner(tmp_path, run_id)
    wait_for(lambda: child.poll() is not None or stored_operations(tmp_path))
    kill(child)
    stored = {path: path.stat().st_mtime_ns for path in stored_operations(tmp_path)}
    assert manifest_of(tmp_path, run_id) is None
    assert stored
    execute_run(str(tmp_path), run_id)
    assert comparable_rows(tmp_path, run_id) == uninterrupted
    check_counts(tmp_path, run_id)
    assert {path: path.stat().st_mtime_ns for path in stored} == stored


def test_stop_while_transcribing_cancels_the_rest_and_resume_finishes(
    tmp_path, long_voices, tiny_whisper, uninterrupted, monkeypatch
):
    run_id = create_run(tmp_path, long_voices, transcription_settings(tiny_whisper, 10), SPOKEN_PROMPT)
    storage = open_storage(tmp_path)
    recognise, batches = whisper._recognise_batch, []

    def recognise_and_stop(*arguments):
        recognised = recognise(*arguments)
        batches.append(len(recognised))
        if len(batches) == 1:
            request_stop(storage, run_id, "test")
            threading.Event().wait(0.6)  # the stop file is polled twice a second
        return recognised

    with monkeypatch.context() as patch:
        patch.setattr(whisper, "_recognise_batch", recognise_and_stop)
        patch.setattr(whisper, "BATCH", 1)
        execute_run(str(tmp_path), run_id)
    assert len(batches) == 1  # the next batch was not started
    rows = check_counts(tmp_path, run_id)
    counts = manifest_of(tmp_path, run_id).counts
    assert manifest_of(tmp_path, run_id).status == "cancelled"
    outcomes = Counter(row["transcription"] for row in rows["segments"])
    assert outcomes["cancelled"] >= 3
    assert set(outcomes) <= {"cancelled", "succeeded"}
    assert counts["transcription.cancelled"] == outcomes["cancelled"]
    assert rows["failures"] == rows["transcripts"] == []
    assert sum(counts.get(f"media.{name}", 0) for name in ("completed", "partial", "failed", "cancelled")) == 3

    clear_stop(storage, run_id)
    execute_run(str(tmp_path), run_id)
    assert manifest_of(tmp_path, run_id).status == "completed"
    assert comparable_rows(tmp_path, run_id) == uninterrupted
