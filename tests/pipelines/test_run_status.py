"""How a run and its one item end where some operations succeed and others fail."""

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


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    return make_image(tmp_path_factory.mktemp("media") / "still.png")


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return make_speech(tmp_path_factory.mktemp("media") / "voice.flac", 4)


def ended(data, run_id):
    """(status of the run, of its one item, operations that failed)."""
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


def test_corrupt_image_weights_leave_an_only_item_partial(tmp_path, still):
    with FakeGemini() as server:
        run_id = run_one(tmp_path, still, server, **corrupt_clip(tmp_path))
    assert ended(tmp_path, run_id) == ("completed_with_failures", "partial", {"image_embedding"})


def test_corrupt_speech_weights_leave_an_only_item_partial(tmp_path, voice):
    with FakeGemini() as server:
        run_id = run_one(tmp_path, voice, server, **corrupt_whisper(tmp_path))
    assert ended(tmp_path, run_id) == ("completed_with_failures", "partial", {"transcription"})


def test_a_failed_text_embedding_leaves_the_item_partial_until_a_resume_makes_it_up(tmp_path, still):
    refused = Fault(method=BATCHES, status=400)
    with FakeGemini() as server:
        run_id = run_one(tmp_path, still, server, [refused], text=EMBEDDER)
        assert ended(tmp_path, run_id) == ("completed_with_failures", "partial", {"text_embedding"})
        message = manifest_of(tmp_path, run_id).error_message
        assert message.startswith("1 x model_bad_request")
        server.set_faults()
        execute_run(str(tmp_path), run_id)
    assert ended(tmp_path, run_id) == ("completed", "completed", set())


def test_a_transcript_alone_is_something_to_keep(tmp_path, voice):
    with FakeGemini() as server:
        whisper = make_whisper(tmp_path / "whisper")
        run_id = run_one(tmp_path, voice, server, [Fault(status=400)], whisper=whisper)
    assert ended(tmp_path, run_id) == ("completed_with_failures", "partial", {"field_extraction"})


def test_where_nothing_succeeded_the_item_and_the_run_have_failed(tmp_path, voice):
    with FakeGemini() as server:
        run_id = run_one(tmp_path, voice, server, [Fault(status=400)], **corrupt_whisper(tmp_path))
    assert ended(tmp_path, run_id) == ("failed", "failed", {"field_extraction", "transcription"})
