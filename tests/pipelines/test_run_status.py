"""Status of a run and its only item when some operations succeed and others fail."""

import pytest

from promptreel.pipelines.runner import execute_run
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import (
    check_counts,
    make_image,
    make_speech,
    manifest_of,
    run_media,
    settings_for,
    with_models,
)
from tests.prompts import NESTED
from tests.tiny_models import make_clip_folder, make_whisper

EMBEDDER = "gemini-embedding-001"
BATCHES = "batchEmbedContents"


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    return make_image(tmp_path_factory.mktemp("media") / "still.png")


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return make_speech(tmp_path_factory.mktemp("media") / "voice.flac", 4)


def statuses(data, run_id):
    """(status of the run, status of its only item, failed operations)."""
    rows = check_counts(data, run_id)
    (item,) = rows["media"]
    return manifest_of(data, run_id).status, item["status"], {row["operation"] for row in rows["failures"]}


def run_one(data, media, server, faults=(), **models):
    server.set_faults(*faults)
    return run_media(data, media, with_models(settings_for(server, window_s=2), **models), NESTED)


def corrupt_whisper(folder):
    weights = make_whisper(folder / "whisper")
    (weights / "model.bin").write_bytes((weights / "model.bin").read_bytes()[:1000])
    return {"whisper": weights}


def corrupt_clip(folder):
    weights = make_clip_folder(folder / "clip")
    (weights / "open_clip_model.safetensors").write_bytes(b"no weights")
    return {"clip": f"local-dir:{weights}"}


def test_corrupt_image_weights_make_the_item_partial(tmp_path, still):
    with FakeGemini() as server:
        run_id = run_one(tmp_path, still, server, **corrupt_clip(tmp_path))
    assert statuses(tmp_path, run_id) == ("completed_with_failures", "partial", {"image_embedding"})


def test_corrupt_speech_weights_make_the_item_partial(tmp_path, voice):
    with FakeGemini() as server:
        run_id = run_one(tmp_path, voice, server, **corrupt_whisper(tmp_path))
    assert statuses(tmp_path, run_id) == ("completed_with_failures", "partial", {"transcription"})


def test_resume_completes_a_failed_text_embedding(tmp_path, still):
    bad_request = Fault(method=BATCHES, status=400)
    with FakeGemini() as server:
        run_id = run_one(tmp_path, still, server, [bad_request], text=EMBEDDER)
        assert statuses(tmp_path, run_id) == ("completed_with_failures", "partial", {"text_embedding"})
        message = manifest_of(tmp_path, run_id).error_message
        assert message.startswith("1 x model_bad_request")
        server.set_faults()
        execute_run(str(tmp_path), run_id)
    assert statuses(tmp_path, run_id) == ("completed", "completed", set())


def test_item_and_run_with_only_a_transcript_fail(tmp_path, voice):
    with FakeGemini() as server:
        whisper = make_whisper(tmp_path / "whisper")
        run_id = run_one(tmp_path, voice, server, [Fault(status=400)], whisper=whisper)
    assert statuses(tmp_path, run_id) == ("failed", "failed", {"field_extraction"})


def test_item_and_run_fail_if_nothing_succeeds(tmp_path, voice):
    with FakeGemini() as server:
        run_id = run_one(tmp_path, voice, server, [Fault(status=400)], **corrupt_whisper(tmp_path))
    assert statuses(tmp_path, run_id) == ("failed", "failed", {"field_extraction", "transcription"})
