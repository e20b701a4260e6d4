"""Load the models that searches use when the service starts, so that the first search does not wait for them.

A search that comes earlier waits for the same load (`promptreel.providers.local_models.shared_model`). Models of services
are not called. A model that is missing or cannot be loaded is a warning: searches then work without it.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from promptreel.api.search.questions import embedder_of
from promptreel.providers.clip import ClipEmbedder, find_weights
from promptreel.providers.registry import is_gemini, text_weights
from promptreel.providers.text_embedding import LocalTextEmbedder
from promptreel.schemas.errors import ExpectedError
from promptreel.schemas.settings import RunSettings

_STOP_TIMEOUT_S: Final = 10.0

_log = logging.getLogger(__name__)


class WarmUp:
    """Loads the models in a thread."""

    def __init__(self, settings: RunSettings) -> None:
        self._thread = threading.Thread(target=load_search_models, args=(settings,), name="warm-up", daemon=True)

    def start(self) -> None:
        """Start loading."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for the load in progress: ending the process within a native library can crash it."""
        self._thread.join(_STOP_TIMEOUT_S)


def load_search_models(settings: RunSettings) -> None:
    """Load the text embedding model of these settings, then their CLIP model if its weights are on this machine."""
    for model, load in (("text embedding", _load_text_model), ("image embedding", _load_clip_model)):
        try:
            load(settings)
        except ExpectedError as error:
            _log.warning("the %s model of searches cannot be loaded: %s", model, error)
        except Exception as error:  # libraries raise errors of their own
            _log.warning("the %s model of searches cannot be loaded", model, exc_info=error)


def _load_text_model(settings: RunSettings) -> None:
    if not settings.text_embedding.enabled or is_gemini(settings.text_embedding.model):
        return
    weights = text_weights(settings)
    if not weights.available:
        _log.warning("searches work by words only: %s; %s", weights.reason, weights.fix)
        return
    embedder = embedder_of(settings)
    if isinstance(embedder, LocalTextEmbedder):
        embedder.embed(["warm up"])


def _load_clip_model(settings: RunSettings) -> None:
    if settings.image_embedding.enabled and find_weights(settings.image_embedding.model).available:
        assert ClipEmbedder(settings.image_embedding.model).dimension
