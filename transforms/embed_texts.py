"""EmbedTexts: embeddings of each item's results and transcripts, for semantic search."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam

from promptreel.providers.base import Provider
from promptreel.providers.call_policy import CallSubject, CallTally
from promptreel.providers.registry import is_gemini, text_embedder_of, text_weights
from promptreel.providers.text_embedding import (
    IndexedText,
    embedding_key,
    embedding_request,
    pack_vectors,
    text_batches,
    texts_of,
)
from promptreel.schemas.field_paths import render_text
from promptreel.schemas.prompt import Prompt
from promptreel.tables.operation_cache import OperationCache
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import ItemOutcome, OperationOutcome
from promptreel.transforms.model_dofn import ModelDoFn
from promptreel.transforms.model_session import ModelSession
from promptreel.transforms.not_run import NotRun
from promptreel.transforms.transcribe import segment_words, spoken_text


class EmbedTexts(beam.PTransform):
    """Embed the texts of each `ItemOutcome` and add the outcome to it."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        if not self._context.request.settings.text_embedding.enabled:
            return pcoll
        return pcoll | "Embed" >> beam.ParDo(_EmbedTextsFn(self._context)).with_output_types(ItemOutcome)


class _EmbedTextsFn(ModelDoFn[ItemOutcome, ItemOutcome]):
    async def open(self) -> None:
        settings = self._context.request.settings
        self._warning = text_embedding_warning(self._context)
        self._session = ModelSession(self._context, text_embedder_of(settings))
        self._log = self._context.outcome_log(self._session.storage)
        if not self._warning:
            await self._session.open()

    async def close(self) -> None:
        if not self._warning:
            await self._session.close()

    async def handle(self, item: ItemOutcome) -> ItemOutcome:
        if self._warning:
            return replace(item, warnings=(*item.warnings, self._warning)) if item.segments else item
        item = await embed_texts(item, self._context, self._session)
        self._log.add_item_outcome(item.plan.item.video_id, "text_embedding", item.text_embedding)
        return item


def text_embedding_warning(context: RunContext) -> NotRun | None:
    """Return why texts are not embedded, and the fix; None if they are."""
    settings = context.request.settings
    if is_gemini(settings.text_embedding.model):
        return None
    weights = text_weights(settings)
    return None if weights.available else NotRun("text_embedding", f"{weights.reason}; {weights.fix}")


@dataclass(frozen=True, slots=True)
class ItemText:
    """A text of an item with its segment; None for texts of the synthesis."""

    segment_id: str | None
    start_us: int | None
    text: IndexedText


async def embed_texts(item: ItemOutcome, context: RunContext, session: ModelSession) -> ItemOutcome:
    """Embed the texts of one item in batches, each cached separately.

    The outcome is that of the first batch that did not succeed, otherwise success.
    """
    item_texts = await asyncio.to_thread(texts_of_item, item, context, session.cache)
    outcomes = [
        await _embed_batch(batch, item, context, session)
        for batch in text_batches([part.text.text for part in item_texts])
    ]
    if not outcomes:
        return item
    unsuccessful = next((outcome for outcome in outcomes if outcome.outcome != "succeeded"), None)
    reused = all(outcome.reused for outcome in outcomes)
    combined = unsuccessful or OperationOutcome("text_embedding", "succeeded", outcomes[0].key, reused=reused)
    return replace(item, text_embedding=combined)


async def _embed_batch(
    batch: Sequence[str], item: ItemOutcome, context: RunContext, session: ModelSession
) -> OperationOutcome:
    key = context.scoped(embedding_key(session.provider, batch))
    subject = CallSubject(context.run_id, item.plan.item.video_id, None, key)

    async def embed(tally: CallTally) -> dict[str, Any]:
        answer = await session.embed(embedding_request(batch), subject, tally)
        assert answer.vectors is not None, "an embedding model returns vectors"
        return {"vectors": pack_vectors(answer.vectors)}

    return await session.run_operation("text_embedding", key, embed)


def batch_keys(texts: Sequence[str], provider: Provider, context: RunContext) -> list[tuple[tuple[str, ...], str]]:
    """Return (texts, cache key of their vectors) for each batch of an item's texts."""
    return [(batch, context.scoped(embedding_key(provider, batch))) for batch in text_batches(texts)]


def texts_of_item(item: ItemOutcome, context: RunContext, cache: OperationCache) -> list[ItemText]:
    """Return every text of an item to embed: of its segments, ordered by time, then of its synthesis."""
    prompt = context.request.prompt
    found: list[ItemText] = []
    for segment in item.segments:
        span = segment.task.planned.span
        extraction = segment.outcome_of("field_extraction")
        stored = cache.get(extraction.key) if extraction is not None and extraction.outcome == "succeeded" else None
        metadata = stored["metadata"] if stored is not None else {}
        disabled = prompt.semantic_indexing.disabled_segment_fields
        texts = texts_of(
            metadata,
            render_text(metadata, prompt.leaves) if stored is not None else "",
            spoken_text(segment_words(segment, cache)),
            prompt.leaves,
            disabled,
        )
        found += [ItemText(segment.task.segment_id, span.start_us, text) for text in texts]
    return found + _synthesis_texts(item, prompt, cache)


def _synthesis_texts(item: ItemOutcome, prompt: Prompt, cache: OperationCache) -> list[ItemText]:
    if prompt.video_level is None or item.synthesis is None or item.synthesis.outcome != "succeeded":
        return []
    stored = cache.get(item.synthesis.key)
    if stored is None:
        return []
    leaves = prompt.video_level.leaves
    disabled = prompt.semantic_indexing.disabled_video_level_fields
    texts = texts_of(stored["metadata"], render_text(stored["metadata"], leaves), "", leaves, disabled)
    return [ItemText(None, None, text) for text in texts]
