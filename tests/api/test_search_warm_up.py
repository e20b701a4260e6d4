"""The service loads the models of searches when it starts."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from promptreel.api.search import warm_up
from promptreel.providers import local_models, text_embedding
from promptreel.providers.clip import ClipEmbedder
from promptreel.providers.text_embedding import WordLlamaEmbedder
from promptreel.schemas.settings import TextEmbeddingSettings
from tests.api_server import ApiServer, ok_json
from tests.pipeline_runs import wait_for
from tests.search_runs import Segment, Shelf, settings_with

pytest_plugins = ["tests.api.search_fixtures"]


@pytest.fixture(autouse=True)
def no_models_loaded(monkeypatch):
    monkeypatch.setattr(local_models, "_models", {})


def search_for(server, query):
    """Create a run with one item, search it, and return the response."""
    caller = server.caller()
    shelf = Shelf(server.app.state.database, server.app.state.storage, caller.account_id)
    index_id = shelf.index()
    shelf.run(index_id, {"vid_a": [Segment(summary="a red crane")]}, embed=False)
    return caller.post(f"/indexes/{index_id}/search", {"query": query})


def assert_is_ready(server):
    assert server.stranger().http.get(server.base_url + "/readyz").json() == {"status": "ready"}


def test_text_model_is_loaded_before_any_search(tmp_path):
    with ApiServer(tmp_path / "data", supervise=False):
        wait_for(lambda: WordLlamaEmbedder().name in local_models._models, 20)


def test_search_during_warm_up_waits_for_the_same_model(tmp_path, monkeypatch):
    load, begun, may_load, loads = text_embedding._load_wordllama, threading.Event(), threading.Event(), []

    def slow_load():
        loads.append(1)
        begun.set()
        assert may_load.wait(60)
        return load()

    monkeypatch.setattr(text_embedding, "_load_wordllama", slow_load)
    with ApiServer(tmp_path / "data", supervise=False) as server:
        assert begun.wait(20), "no model is loaded at the start"
        assert_is_ready(server)
        caller = server.caller()
        shelf = Shelf(server.app.state.database, server.app.state.storage, caller.account_id)
        index_id = shelf.index()
        films = {"vid_a": [Segment(summary="a red crane")]}
        shelf.run(index_id, films, embed=lambda texts: np.ones((len(texts), 256), np.float32))
        with ThreadPoolExecutor(1) as pool:
            response = pool.submit(caller.post, f"/indexes/{index_id}/search", {"query": "crane"})
            wait_for(lambda: caller.get("/rate-limit/status").status_code == 200, 20)  # other requests are served
            assert not response.done()
            may_load.set()
            (hit,) = ok_json(response.result(60))
    assert hit["similarity_score"] is not None
    assert loads == [1]


def test_missing_text_model_is_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(text_embedding, "_package_folder", lambda package: None)
    with caplog.at_level(logging.WARNING), ApiServer(tmp_path / "data", supervise=False) as server:
        wait_for(lambda: "pip install wordllama" in caplog.text, 20)
        assert_is_ready(server)
        assert [hit["video_id"] for hit in ok_json(search_for(server, "crane"))] == ["vid_a"]


def test_model_that_cannot_be_loaded_is_a_warning(tmp_path, monkeypatch, caplog):
    def fail():
        raise RuntimeError("the weights are damaged")

    monkeypatch.setattr(text_embedding, "_load_wordllama", fail)
    with caplog.at_level(logging.WARNING), ApiServer(tmp_path / "data", supervise=False) as server:
        wait_for(lambda: "the weights are damaged" in caplog.text, 20)
        assert_is_ready(server)


def test_clip_model_is_loaded_for_texts_and_images(search_clip, caplog):
    settings, embedder = search_clip
    for chosen in (
        settings,
        settings_with(**{**vars(settings), "text_embedding": TextEmbeddingSettings(model="clip")}),
    ):
        local_models._models.clear()
        warm_up.load_search_models(chosen)
        assert any(key[0] == embedder.name for key in local_models._models if isinstance(key, tuple))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_model_of_a_service_is_not_called(monkeypatch):
    monkeypatch.setattr(text_embedding, "_load_wordllama", lambda: pytest.fail("another model is loaded"))
    warm_up.load_search_models(settings_with(text_embedding=TextEmbeddingSettings(model="gemini-embedding-001")))


def test_missing_clip_weights_load_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PROMPTREEL_MODELS", str(tmp_path))
    monkeypatch.setattr(ClipEmbedder, "_loaded", lambda self: pytest.fail("loads missing weights"))
    warm_up.load_search_models(settings_with())
