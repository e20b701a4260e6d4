"""Text embeddings in the pipeline: embedded texts, vectors, models and outcomes."""

import json
import socket
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.providers import local_models, text_embedding
from promptreel.providers.text_embedding import WordLlamaEmbedder, find_text_weights
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.settings import ModelSettings
from promptreel.tables.stop_signal import clear_stop, request_stop
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini, Fault
from tests.fake_gemini.answers import embedding_for
from tests.pipeline_runs import (
    check_counts,
    comparable_rows,
    create_run,
    kill,
    make_audio,
    make_image,
    make_speech,
    make_video,
    manifest_of,
    promptreel,
    rows_of,
    run_media,
    settings_for,
    start_runner,
    wait_for,
    with_models,
)
from tests.prompts import NESTED
from tests.tiny_models import make_whisper

EMBEDDER = "gemini-embedding-001"
BATCHES = "batchEmbedContents"
INDEXED = prompt_from_dict(
    {
        **NESTED.to_dict(),
        "semantic_indexing": {
            "disabled_segment_fields": ["scene.location", "products[].tags"],
            "disabled_video_level_fields": [],
        },
    }
)


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    make_speech(folder / "talk.mp4", 5, 1, "testsrc2=size=160x90:rate=10")
    make_image(folder / "still.png")
    return folder


@pytest.fixture(scope="module")
def embedded(media, tmp_path_factory):
    """(data folder, run id, rows by table) of a run with a transcript and the default model."""
    data = tmp_path_factory.mktemp("data")
    weights = make_whisper(tmp_path_factory.mktemp("whisper") / "tiny")
    with pytest.MonkeyPatch.context() as patch, FakeGemini() as server:
        patch.setenv("GEMINI_API_KEY", "any")
        settings = with_models(settings_for(server, window_s=1), whisper=weights, text="wordllama")
        run_id = run_media(data, media, settings, INDEXED)
    return data, run_id, check_counts(data, run_id)


def texts_in(value, path="", instance=""):
    """Yield (canonical path, path with indexes, text) of every string in a value."""
    if isinstance(value, dict):
        for name, part in value.items():
            dot = "." if path else ""
            yield from texts_in(part, f"{path}{dot}{name}", f"{instance}{dot}{name}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            inside = "[]" if isinstance(part, dict) else ""
            yield from texts_in(part, f"{path}{inside}", f"{instance}[{number}]")
    elif isinstance(value, str) and value.strip():
        yield path, instance, value


def expected_texts(rows, disabled=()):
    """Derive every text to embed from the other tables, as (segment, field, instance, text)."""
    found = []
    for row in (*rows["results"], *rows["video_results"]):
        segment_id = row.get("segment_id")
        for path, instance, text in texts_in(json.loads(row["metadata"])):
            if path not in disabled and not path.startswith("extra"):
                found.append((segment_id, path, instance, text))
        lines = [line for line in row["metadata_text"].splitlines() if line.partition(": ")[0] not in disabled]
        if lines:
            found.append((segment_id, "metadata_text", "metadata_text", "\n".join(lines)))
    for row in rows["transcripts"]:
        if row["text"]:
            found.append((row["segment_id"], "transcription", "transcription", row["text"]))
    return Counter(found)


def test_embedded_texts_are_leaf_strings_rendered_texts_and_transcripts(embedded):
    _, _, rows = embedded
    expected = expected_texts(rows, {"scene.location", "products[].tags"})
    indexed = Counter((r["segment_id"], r["field"], r["instance"], r["text"]) for r in rows["text_embeddings"])
    assert indexed == expected
    fields = {row["field"] for row in rows["text_embeddings"]}
    assert fields >= {"summary", "products[].name", "keywords", "metadata_text", "transcription", "topic"}
    assert any(row["instance"] == "products[1].name" for row in rows["text_embeddings"])
    starts = {row["segment_id"]: row["start_us"] for row in rows["segments"]}
    assert all(row["start_us"] == starts.get(row["segment_id"]) for row in rows["text_embeddings"])


def test_vectors_are_float32_and_equal_direct_embeddings(embedded):
    from wordllama import WordLlama

    data, run_id, rows = embedded
    model = WordLlama.load(cache_dir=find_text_weights("wordllama").path.parent, disable_download=True)
    for part in manifest_of(data, run_id).parts:
        if part.table == "text_embeddings":
            assert pq.read_schema(data / "runs" / run_id / part.file).field("vector").type == pa.list_(
                pa.float32(), 256
            )
    texts = [row["text"] for row in rows["text_embeddings"]]
    direct = model.embed(texts, norm=False)
    direct /= np.linalg.norm(direct, axis=1, keepdims=True)
    assert np.array([row["vector"] for row in rows["text_embeddings"]]) == pytest.approx(direct, abs=1e-5)
    name = WordLlamaEmbedder().name
    assert {(row["model"], row["dimension"]) for row in rows["text_embeddings"]} == {(name, 256)}


def test_default_model_needs_no_network_and_is_loaded_once(media, embedded, tmp_path, monkeypatch):
    monkeypatch.setattr(local_models, "_models", {})
    loads, load = [], text_embedding._load_wordllama
    monkeypatch.setattr(text_embedding, "_load_wordllama", lambda: loads.append(1) or load())

    def reject(*arguments):
        pytest.fail(f"network access: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", reject)
    monkeypatch.setattr(socket, "getaddrinfo", reject)
    prompt = prompt_from_dict(
        {
            "name": "measured",
            "prompt_text": "Measure the segment.",
            "json_schema": {
                "type": "object",
                "properties": {"dominant_colors": {"type": "array", "items": {"type": "string"}}},
            },
        }
    )
    settings = with_models(settings_for(window_s=2), text="wordllama")
    first = run_media(tmp_path, media, settings, prompt)
    rows = check_counts(tmp_path, first)
    assert loads == [1]  # for two items
    assert {row["field"] for row in rows["text_embeddings"]} == {"dominant_colors", "metadata_text"}
    local_models._models.clear()
    second = run_media(tmp_path, media, settings, prompt)
    assert loads == [1]
    assert comparable_rows(tmp_path, first) == comparable_rows(tmp_path, second)


def test_disabled_text_embedding_writes_no_rows_and_no_warning(tmp_path, media):
    run_id = run_media(tmp_path, media / "still.png", with_models(settings_for()), MEASURED)
    assert check_counts(tmp_path, run_id)["text_embeddings"] == []
    assert manifest_of(tmp_path, run_id).warnings == ()


MEASURED = prompt_from_dict(
    {
        "name": "measured",
        "prompt_text": "Measure the segment.",
        "json_schema": {"type": "object", "properties": {"brightness": {"type": "number"}}},
    }
)


def test_missing_model_is_a_warning_and_an_error_if_strict(tmp_path, media):
    words = ["run", media / "still.png", "--data-dir", tmp_path, "--model", "signals", "--json", "--no-transcription"]
    words += ["--no-image-embedding", "--text-embedding-model", "sentence-transformers:no-such-model"]
    code, out, err = promptreel(*words)
    assert code == 0, err
    (warning,) = json.loads(out)["warnings"]
    assert warning.startswith("no text_embedding: ")
    assert "pip install" in warning or "promptreel models pull" in warning
    rows = check_counts(tmp_path, json.loads(out)["run_id"])
    assert ([row["warnings"] for row in rows["media"]], rows["text_embeddings"]) == ([[warning]], [])
    code, out, err = promptreel(*words, "--strict-models")
    assert (code, out) == (2, "")
    assert f"strict_models: {warning}" in err


# Gemini's embedding model


def gemini_settings(server, **calls):
    return with_models(settings_for(server, window_s=2, **calls), text=EMBEDDER)


def test_service_embeds_texts_in_separate_calls(tmp_path, media):
    with FakeGemini() as server:
        run_id = run_media(tmp_path, media, gemini_settings(server), NESTED)
        rows = check_counts(tmp_path, run_id)
        answered = server.ledger.answered(BATCHES)
        assert len(server.ledger.calls(BATCHES)) == len(answered) == 2  # one for each item
        assert Counter((r["segment_id"], r["field"], r["instance"], r["text"]) for r in rows["text_embeddings"]) == (
            expected_texts(rows)
        )
        for row in rows["text_embeddings"]:
            vector = np.array(embedding_for(EMBEDDER, row["text"]))
            assert np.array(row["vector"]) == pytest.approx(vector / np.linalg.norm(vector), abs=1e-6)
            assert (row["model"], row["dimension"]) == (EMBEDDER, len(vector))
        calls = [call for call in rows["llm_calls"] if call["purpose"] == "text_embedding"]
        assert {(c["model"], c["status"], c["segment_id"]) for c in calls} == {(EMBEDDER, "success", None)}
        assert {call["video_id"] for call in calls} == {row["video_id"] for row in rows["media"]}
        # The service reports no usage for embeddings: tokens are estimated as a quarter of the characters.
        for call in calls:
            distinct = {row["text"] for row in rows["text_embeddings"] if row["video_id"] == call["video_id"]}
            assert call["input_tokens"] == call["total_tokens"] == sum(map(len, distinct)) // 4
            assert call["output_tokens"] == 0
        counts = manifest_of(tmp_path, run_id).counts
        assert counts["tokens.total"] == sum(call["total_tokens"] for call in rows["llm_calls"])

        before = len(server.ledger.entries)
        second = run_media(tmp_path, media, gemini_settings(server), NESTED)
        assert len(server.ledger.entries) == before
        assert comparable_rows(tmp_path, run_id) == comparable_rows(tmp_path, second)
        assert check_counts(tmp_path, second)["llm_calls"] == []


def test_vectors_of_two_models_are_stored_separately(tmp_path, media):
    with FakeGemini() as server:
        one = run_media(tmp_path, media, gemini_settings(server), NESTED)
        two = run_media(tmp_path, media, with_models(settings_for(server, window_s=2), text="wordllama"), NESTED)
    first, second = (
        {(r["segment_id"], r["instance"]): r for r in rows_of(tmp_path, run, "text_embeddings")} for run in (one, two)
    )
    assert first.keys() == second.keys()
    assert {row["dimension"] for row in first.values()} == {48}
    assert {row["dimension"] for row in second.values()} == {256}
    assert {row["model"] for row in first.values()}.isdisjoint({row["model"] for row in second.values()})


def test_transient_errors_are_retried(tmp_path, media):
    with FakeGemini(faults=[Fault(method=BATCHES, first=2, status=503, retry_delay=0.01)]) as server:
        run_id = run_media(tmp_path, media / "still.png", gemini_settings(server), NESTED)
        rows = check_counts(tmp_path, run_id)
        assert [entry.status for entry in server.ledger.calls(BATCHES)] == [503, 503, 200]
    statuses = Counter(c["status"] for c in rows["llm_calls"] if c["purpose"] == "text_embedding")
    assert statuses == {"error": 2, "success": 1}
    assert rows["text_embeddings"]
    assert rows["failures"] == []


def test_daily_quota_only_fails_embedding_and_resume_completes_it(tmp_path, media):
    quota = Fault(method=BATCHES, status=429, quota_id="EmbedContentRequestsPerDayPerProject", retry_delay=3600)
    with FakeGemini(faults=[quota]) as server:
        run_id = run_media(tmp_path, media, gemini_settings(server, max_in_flight=1), NESTED)
        rows = check_counts(tmp_path, run_id)
        assert len(server.ledger.calls(BATCHES)) == 1  # the quota halts later calls
        assert {(f["operation"], f["code"], f["retryable"], f["segment_id"]) for f in rows["failures"]} == {
            ("text_embedding", "quota_exhausted", True, None)
        }
        assert len(rows["failures"]) == len(rows["media"]) == 2
        assert len(rows["results"]) == len(rows["segments"])
        assert len(rows["video_results"]) == 1
        assert rows["text_embeddings"] == []
        earlier_calls = len(server.ledger.calls())
        server.set_faults()
        execute_run(str(tmp_path), run_id)
        assert len(server.ledger.calls()) == earlier_calls
        after = check_counts(tmp_path, run_id)
        assert after["failures"] == []
        assert {row["video_id"] for row in after["text_embeddings"]} == {row["video_id"] for row in rows["media"]}
        assert manifest_of(tmp_path, run_id).status == "completed"


# Without a synthesis, all generation calls precede the first embedding.
FLAT = prompt_from_dict({**NESTED.to_dict(), "video_level": None})


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(4):
        make_audio(folder / f"{number}.flac", 2, 300 + 50 * number)
    make_video(folder / "5.mp4", 2)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(sounds, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch, FakeGemini() as server:
        patch.setenv("GEMINI_API_KEY", "any")
        return comparable_rows(data, run_media(data, sounds, gemini_settings(server), FLAT))


@pytest.mark.parametrize("interruption", ["kill", "stop"])
def test_interrupted_embedding_resumes_without_repeating_calls(tmp_path, sounds, uninterrupted, interruption):
    slow = Fault(method=BATCHES, delay=0.5)
    with FakeGemini(faults=[slow]) as server:
        run_id = create_run(tmp_path, sounds, gemini_settings(server, max_in_flight=1), FLAT)
        child = start_runner(tmp_path, run_id)
        wait_for(lambda: child.poll() is not None or len(server.ledger.answered(BATCHES)) >= 2)
        if interruption == "kill":
            kill(child)
            assert manifest_of(tmp_path, run_id) is None
        else:
            request_stop(open_storage(tmp_path), run_id, "test")
            child.communicate(timeout=60)
            assert child.returncode == 0
            rows = check_counts(tmp_path, run_id)
            assert rows["failures"] == []
            assert 2 <= len({row["video_id"] for row in rows["text_embeddings"]}) < 5
            assert len(rows["results"]) == len(rows["segments"])
            clear_stop(open_storage(tmp_path), run_id)
        assert len(server.ledger.calls(BATCHES)) < 5
        earlier_calls = len(server.ledger.calls())
        server.set_faults()
        execute_run(str(tmp_path), run_id)
        assert len(server.ledger.calls()) == earlier_calls
        assert server.ledger.repeated(BATCHES) <= (1 if interruption == "kill" else 0)
        assert len(server.ledger.answered(BATCHES)) <= (6 if interruption == "kill" else 5)
    assert comparable_rows(tmp_path, run_id) == uninterrupted
    assert manifest_of(tmp_path, run_id).status == "completed"


def test_text_embedding_uses_the_base_url_of_the_run(tmp_path, media):
    with FakeGemini() as server:
        settings = with_models(settings_for(window_s=2), text=EMBEDDER, model=ModelSettings(base_url=server.base_url))
        run_id = run_media(tmp_path, media / "still.png", settings, MEASURED)
        rows = check_counts(tmp_path, run_id)
        assert len(server.ledger.answered(BATCHES)) == 1
        assert server.ledger.calls() == []
    assert [row["field"] for row in rows["text_embeddings"]] == ["metadata_text"]
