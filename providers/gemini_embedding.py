"""Text embeddings from the Gemini API, under the same call policy as every other call.

Documents and search queries have different task types, and share one space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from promptreel.providers.base import ModelAnswer, ModelRequest, Provider, Usage
from promptreel.providers.gemini_client import model_error_of, open_client, require_access
from promptreel.providers.text_embedding import VERSION, unit_rows
from promptreel.schemas.errors import ModelError
from promptreel.schemas.settings import ModelSettings


class GeminiTextEmbedder(Provider):
    """A Gemini embedding model, at the same base URL as the run's model."""

    def __init__(self, model: str, access: ModelSettings) -> None:
        self.name = model
        self._access = access
        self._client: Any = None

    def fingerprint(self) -> Mapping[str, Any]:
        return {"provider": "gemini", "version": VERSION, "model": self.name, "task": "RETRIEVAL_DOCUMENT"}

    def check_access(self) -> None:
        require_access(self.name, self._access, "embed texts on this machine with --text-embedding-model wordllama")

    async def open(self) -> None:
        self._client = open_client(self._access)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aio.aclose()
            self._client = None

    async def call(self, request: ModelRequest, prepared: Any) -> ModelAnswer:
        from google.genai import types

        config = types.EmbedContentConfig(task_type="RETRIEVAL_QUERY" if request.is_query else "RETRIEVAL_DOCUMENT")
        # One content per text: newer models treat a list of strings as the parts of one content.
        contents = [types.Content(parts=[types.Part(text=text)]) for text in request.texts]
        try:
            response = await self._client.aio.models.embed_content(model=self.name, contents=contents, config=config)
        except Exception as error:
            if (failure := model_error_of(error, self.name)) is None:
                raise
            raise failure from error
        rows = [embedding.values for embedding in response.embeddings or ()]
        if len(rows) != len(request.texts):
            message = (
                f"model {self.name!r} returned {len(rows)} vectors for {len(request.texts)} texts; use another model"
            )
            raise ModelError("embedding_failed", message)
        tokens = sum(len(text) for text in request.texts) // 4  # the service reports no usage for embeddings
        usage = Usage(input_tokens=tokens, total_tokens=tokens, text_tokens=tokens)
        return ModelAnswer(text="", usage=usage, vectors=unit_rows(np.asarray(rows, np.float32)))
