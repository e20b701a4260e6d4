"""Fixtures of search tests; a file loads them with `pytest_plugins`."""

import pytest

from promptreel.api.app import create_app
from promptreel.api.config import ApiConfig
from promptreel.providers.clip import ClipEmbedder
from promptreel.providers.weights import is_installed
from promptreel.schemas.settings import ImageEmbeddingSettings
from tests.api.search_calls import Searcher
from tests.search_runs import settings_with
from tests.tiny_models import make_clip_folder


@pytest.fixture(scope="module")
def search_app(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    search_app = create_app(ApiConfig(data_dir=str(data), supervise=False, default_model="signals"))
    yield search_app
    if getattr(search_app.state, "search", None) is not None:
        search_app.state.search.library.stop()
    search_app.state.database.close()


@pytest.fixture
def searcher(search_app):
    return Searcher(search_app)


@pytest.fixture(scope="module")
def search_clip(tmp_path_factory):
    """Return (settings, embedder) of a CLIP model with random weights."""
    if not (is_installed("torch") and is_installed("open_clip")):
        pytest.skip("torch or open-clip is not installed: pip install 'promptreel[clip]'")
    model = f"local-dir:{make_clip_folder(tmp_path_factory.mktemp('clip') / 'mine')}"
    return settings_with(image_embedding=ImageEmbeddingSettings(model=model)), ClipEmbedder(model)
