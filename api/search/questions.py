"""Queries as vectors: made by the models of the runs that are searched, for vectors of two models are never compared."""

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

_SERVICE_DEADLINE_S: Final = 10.0
_MAX_KEPT: Final = 512


class QueryVectors:
    """Makes the vectors of queries, and keeps the newest ones."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def of_text(self, query: str, model: str, settings: RunSettings) -> Vectors | None:
        """float32[d] of a text in the space of a model; None where the text says nothing to it.

        Args:
            model: the name beside the vectors that are searched.
            settings: of a run whose vectors they are.

        Raises:
            ModelError: the model is not what it was, cannot be loaded, or the service did not answer.
        """
        vector = self._once((model, query), lambda: _embed_text(query, model, settings))
        return vector if vector.any() else None

    def of_picture(self, path: Path, model: str, settings: RunSettings) -> Vectors:
        """float32[d] of a picture in the space of a CLIP model.

        Raises:
            ModelError: see `of_text`.
        """
        embedder = ClipEmbedder(settings.image_embedding.model)
        _check_name(embedder.name, model)
        return np.ascontiguousarray(embedder.embed_images([path])[0], np.float32)

    def _once(self, key: tuple[str, str], make: Callable[[], Vectors]) -> Vectors:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        vector = make()
        with self._lock:
            self._kept[key] = vector
            while len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return vector


def missing_clip(settings: RunSettings) -> str:
    """Why pictures cannot be searched with a run's CLIP model, and the fix; empty where they can."""
    weights = find_weights(settings.image_embedding.model)
    return "" if weights.available else f"{weights.reason}; {weights.fix}"


def _embed_text(query: str, model: str, settings: RunSettings) -> Vectors:
    try:
        embedder = _embedder_of(settings)
        _check_name(embedder.name, model)
        embedder.check_access()
    except InvalidInput as error:
        raise ModelError("model_unavailable", str(error)) from error
    if isinstance(embedder, LocalTextEmbedder):
        return np.ascontiguousarray(embedder.embed([query])[0], np.float32)
    return asyncio.run(_ask(embedder, query))


def _embedder_of(settings: RunSettings) -> Any:
    return _wordllama() if settings.text_embedding.model == "wordllama" else text_embedder_of(settings)


@functools.cache
def _wordllama() -> WordLlamaEmbedder:
    return WordLlamaEmbedder()  # looks its version up, which takes as long as a query


async def _ask(embedder: Any, query: str) -> Vectors:
    """Calls a service once: the search waits for it, and word search works without it."""
    await embedder.open()
    try:
        request = embedding_request([query], is_query=True)
        answer = await asyncio.wait_for(embedder.call(request, None), _SERVICE_DEADLINE_S)
    except TimeoutError as error:
        raise ModelError("model_timeout", f"{embedder.name} did not answer in {_SERVICE_DEADLINE_S:g} s") from error
    finally:
        await embedder.close()
    return np.ascontiguousarray(answer.vectors[0], np.float32)


def _check_name(here: str, wanted: str) -> None:
    if here != wanted:
        message = f"the vectors were made by {wanted}, which is {here} here now; run the prompt again"
        raise ModelError("model_unavailable", message)
