"""Gemini's embedding models over HTTP: one vector for each text, as a document or as a query."""

import asyncio

import numpy as np
import pytest

from promptreel.providers.gemini_client import KEY_VARIABLES
from promptreel.providers.gemini_embedding import GeminiTextEmbedder
from promptreel.providers.registry import check_run
from promptreel.providers.text_embedding import embedding_request
from promptreel.schemas.errors import ModelError, SettingsError
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.settings import ModelSettings, RunSettings, TextEmbeddingSettings
from tests.fake_gemini import FakeGemini
from tests.fake_gemini.answers import embedding_for
from tests.pipeline_runs import MODEL, create_run, make_image, promptreel, settings_for, with_models

MODELS = ["gemini-embedding-001", "gemini-embedding-2", "models/gemini-embedding-2-preview", "gemini-embedding-9"]
TEXTS = ("a crane in the harbour", "a van in the street", "rain on a window")
MEASURED = prompt_from_dict(
    {
        "name": "measured",
        "prompt_text": "Measure the segment.",
        "json_schema": {"type": "object", "properties": {"brightness": {"type": "number"}}},
    }
)


@pytest.fixture
def no_key(monkeypatch):
    for name in KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    with FakeGemini() as server:
        yield server


@pytest.fixture
def bodies(server, monkeypatch):
    """The request bodies that the service receives."""
    received, handle = [], server.service._embed_batch

    def record(model, body, fault):
        received.append(body)
        return handle(model, body, fault)

    monkeypatch.setattr(server.service, "_embed_batch", record)
    return received


def embed(server, model, texts, **options):
    async def call():
        embedder = GeminiTextEmbedder(model, ModelSettings(MODEL, base_url=server.base_url))
        await embedder.open()
        try:
            return (await embedder.call(embedding_request(texts, **options), None)).vectors
        finally:
            await embedder.close()

    return asyncio.run(call())


@pytest.mark.parametrize("model", MODELS)
def test_every_text_has_its_own_vector_in_one_call(server, model):
    vectors = embed(server, model, TEXTS)
    direct = np.array([embedding_for(model.removeprefix("models/"), text) for text in TEXTS])
    direct /= np.linalg.norm(direct, axis=1, keepdims=True)
    assert vectors == pytest.approx(direct, abs=1e-6)
    assert len(server.ledger.calls("batchEmbedContents")) == 1


@pytest.mark.parametrize("model", MODELS[:2])
def test_documents_and_queries_have_different_task_types(server, bodies, model):
    embed(server, model, TEXTS)
    embed(server, model, TEXTS[:1], is_query=True)
    tasks = [[request["taskType"] for request in body["requests"]] for body in bodies]
    assert tasks == [["RETRIEVAL_DOCUMENT"] * 3, ["RETRIEVAL_QUERY"]]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_wrong_number_of_vectors_is_a_final_failure(server, monkeypatch, count):
    answer = {"embeddings": [{"values": [1.0, 0.0]}] * count}
    monkeypatch.setattr(server.service, "_embed_batch", lambda model, body, fault: (answer, {}))
    with pytest.raises(ModelError, match=f"returned {count} vectors for 3 texts") as raised:
        embed(server, MODELS[1], TEXTS)
    assert (raised.value.code, raised.value.retryable) == ("embedding_failed", False)


def settings_with(embedder, **more):
    return RunSettings(text_embedding=TextEmbeddingSettings(model=embedder, **more))


def test_run_with_an_unknown_embedder_is_rejected():
    with pytest.raises(SettingsError, match=r"text embedding model 'word2vec'; use wordllama, .*gemini-embedding-001"):
        check_run(MEASURED, settings_with("word2vec"))
    check_run(MEASURED, settings_with("word2vec", enabled=False))


def test_run_with_a_gemini_embedder_needs_its_key(no_key, monkeypatch):
    with pytest.raises(SettingsError, match=r"'gemini-embedding-2' needs a key: set GEMINI_API_KEY.*wordllama"):
        check_run(MEASURED, settings_with("gemini-embedding-2"))
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    check_run(MEASURED, settings_with("gemini-embedding-2"))


def test_command_line_rejects_both_before_creating_a_run(tmp_path):
    media = make_image(tmp_path / "still.png")
    words = ["run", media, "--data-dir", tmp_path / "data", "--model", "signals", "--text-embedding-model"]
    for model, message in (("word2vec", "no provider for text embedding model 'word2vec'"), (MODELS[1], "needs a key")):
        code, out, err = promptreel(*words, model, env=dict.fromkeys(KEY_VARIABLES, ""))
        assert (code, out) == (2, ""), err
        assert message in err
    assert not (tmp_path / "data" / "runs").exists()


def test_resume_without_the_key_fails_before_the_attempt(tmp_path, server):
    media = make_image(tmp_path / "still.png")
    settings = with_models(settings_for(), text=MODELS[1], model=ModelSettings(base_url=server.base_url))
    run_id = create_run(tmp_path / "data", media, settings, MEASURED)
    words = ["run", "--resume", run_id, "--data-dir", tmp_path / "data"]
    code, _, err = promptreel(*words, env=dict.fromkeys(KEY_VARIABLES, ""))
    assert code != 0
    assert f"{MODELS[1]!r} needs a key: set GEMINI_API_KEY" in err
    assert not (tmp_path / "data" / "runs" / run_id / "attempts").exists()
    code, _, err = promptreel(*words)
    assert code == 0, err
