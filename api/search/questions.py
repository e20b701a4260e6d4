"""Query vectors, computed by the models of the searched runs: vectors of different models are not comparable."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from promptreel.providers.clip import ClipEmbedder, find_weights
from promptreel.providers.registry import text_embedder_of
from promptreel.providers.text_embedding import (
    LocalTextEmbedder,
    WordLlamaEmbedder,
    embedding_request,
)
from promptreel.schemas.errors import InvalidInput, ModelError
from promptreel.schemas.settings import RunSettings
from promptreel.tables.vectors import Vectors

_SERVICE_TIMEOUT_S: Final = 10.0
_MAX_CACHED: Final = 512


class QueryVectors:
    """Computes query vectors and caches the most recently used text vectors."""

    def __init__(self) -> None:
        self._cache: OrderedDict[tuple[str, str], Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def of_text(self, query: str, model: str, settings: RunSettings) -> Vectors | None:
        """Return the vector float32[d] of a text; None if the model knows none of its words.

        Args:
            model: model name stored with the vectors that are searched.
            settings: settings of a run with these vectors.

        Raises:
            ModelError: the model has changed, cannot be loaded, or its service did not respond.
        """
        vector = self._cached_or((model, query), lambda: _embed_text(query, model, settings))
        return vector if vector.any() else None

    def of_picture(self, path: Path, model: str, settings: RunSettings) -> Vectors:
        """Return the vector float32[d] of an image by a CLIP model.

        Raises:
            ModelError: see `of_text`.
        """
        embedder = ClipEmbedder(settings.image_embedding.model)
        _check_name(embedder.name, model)
        return np.ascontiguousarray(embedder.embed_images([path])[0], np.float32)

    def _cached_or(self, key: tuple[str, str], compute: Callable[[], Vectors]) -> Vectors:
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        vector = compute()
        with self._lock:
            self._cache[key] = vector
            while len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
        return vector


def missing_clip(settings: RunSettings) -> str:
    """Return why a run's CLIP model is unavailable, and the fix; empty if it is available."""
    weights = find_weights(settings.image_embedding.model)
    return "" if weights.available else f"{weights.reason}; {weights.fix}"


def _embed_text(query: str, model: str, settings: RunSettings) -> Vectors:
    try:
        embedder = embedder_of(settings)
        _check_name(embedder.name, model)
        embedder.check_access()
    except InvalidInput as error:
        raise ModelError("model_unavailable", str(error)) from error
    if isinstance(embedder, LocalTextEmbedder):
        return np.ascontiguousarray(embedder.embed([query])[0], np.float32)
    return asyncio.run(_call(embedder, query))


def embedder_of(settings: RunSettings) -> Any:
    """Return the text embedding model of these settings; the default one is created once."""
    return _wordllama() if settings.text_embedding.model == "wordllama" else text_embedder_of(settings)


@functools.cache
def _wordllama() -> WordLlamaEmbedder:
    return WordLlamaEmbedder()  # cached: resolving its version takes as long as a query


async def _call(embedder: Any, query: str) -> Vectors:
    """Call a service without retries: the search waits for it, and word search works without it."""
    await embedder.open()
    try:
        request = embedding_request([query], is_query=True)
        response = await asyncio.wait_for(embedder.call(request, None), _SERVICE_TIMEOUT_S)
    except TimeoutError as error:
        raise ModelError("model_timeout", f"{embedder.name} did not respond within {_SERVICE_TIMEOUT_S:g} s") from error
    finally:
        await embedder.close()
    return np.ascontiguousarray(response.vectors[0], np.float32)


def _check_name(available: str, required: str) -> None:
    if available != required:
        message = (
            f"the run's vectors were created by {required}, but this service has {available}; run the prompt again"
        )
        raise ModelError("model_unavailable", message)
