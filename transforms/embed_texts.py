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
from promptreel.transforms.transcribe import segment_words, spoken_in


class EmbedTexts(beam.PTransform):
    """`ItemOutcome`s to the same with their texts embedded."""

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
        if not self._warning:
            await self._session.open()

    async def close(self) -> None:
        if not self._warning:
            await self._session.close()

    async def handle(self, item: ItemOutcome) -> ItemOutcome:
        if self._warning:
            return replace(item, warnings=(*item.warnings, self._warning)) if item.segments else item
        return await embed_texts(item, self._context, self._session)


def text_embedding_warning(context: RunContext) -> str:
    """Why texts are not embedded, and the fix; empty where they are."""
    settings = context.request.settings
    if is_gemini(settings.text_embedding.model):
        return ""
    weights = text_weights(settings)
    return "" if weights.available else f"no text_embedding: {weights.reason}; {weights.fix}"


@dataclass(frozen=True, slots=True)
class PlacedText:
    """A text of an item and where it was found; the synthesis has no segment."""

    segment_id: str | None
    start_us: int | None
    text: IndexedText


async def embed_texts(item: ItemOutcome, context: RunContext, session: ModelSession) -> ItemOutcome:
    """Embeds the texts of one item in batches, each of which is kept by itself. The outcome is the first that did not
    succeed, else success."""
    placed = await asyncio.to_thread(texts_of_item, item, context, session.cache)
    outcomes = [
        await _embed_batch(batch, item, context, session) for batch in text_batches([part.text.text for part in placed])
    ]
    if not outcomes:
        return item
    worst = next((outcome for outcome in outcomes if outcome.outcome != "succeeded"), None)
    reused = all(outcome.reused for outcome in outcomes)
    summed = worst or OperationOutcome("text_embedding", "succeeded", outcomes[0].key, reused=reused)
    return replace(item, text_embedding=summed)


async def _embed_batch(
    batch: Sequence[str], item: ItemOutcome, context: RunContext, session: ModelSession
) -> OperationOutcome:
    key = context.scoped(embedding_key(session.provider, batch))
    subject = CallSubject(context.run_id, item.plan.item.video_id, None, key)

    async def make(tally: CallTally) -> dict[str, Any]:
        answer = await session.embed(embedding_request(batch), subject, tally)
        assert answer.vectors is not None, "an embedding model answers with vectors"
        return {"vectors": pack_vectors(answer.vectors)}

    return await session.run_operation("text_embedding", key, make)


def batch_keys(texts: Sequence[str], provider: Provider, context: RunContext) -> list[tuple[tuple[str, ...], str]]:
    """(texts, key under which their vectors are kept) for each batch of an item's texts."""
    return [(batch, context.scoped(embedding_key(provider, batch))) for batch in text_batches(texts)]


def texts_of_item(item: ItemOutcome, context: RunContext, cache: OperationCache) -> list[PlacedText]:
    """Every text of an item that is embedded: of its segments in order of time, then of its synthesis."""
    prompt = context.request.prompt
    found: list[PlacedText] = []
    for segment in item.segments:
        span = segment.task.planned.span
        extraction = segment.outcome_of("field_extraction")
        kept = cache.get(extraction.key) if extraction is not None and extraction.outcome == "succeeded" else None
        metadata = kept["metadata"] if kept is not None else {}
        disabled = prompt.semantic_indexing.disabled_segment_fields
        texts = texts_of(
            metadata,
            render_text(metadata, prompt.leaves) if kept is not None else "",
            spoken_in(segment_words(item, segment.task.number, cache)),
            prompt.leaves,
            disabled,
        )
        found += [PlacedText(segment.task.segment_id, span.start_us, text) for text in texts]
    return found + _synthesis_texts(item, prompt, cache)


def _synthesis_texts(item: ItemOutcome, prompt: Prompt, cache: OperationCache) -> list[PlacedText]:
    if prompt.video_level is None or item.synthesis is None or item.synthesis.outcome != "succeeded":
        return []
    kept = cache.get(item.synthesis.key)
    if kept is None:
        return []
    leaves = prompt.video_level.leaves
    disabled = prompt.semantic_indexing.disabled_video_level_fields
    texts = texts_of(kept["metadata"], render_text(kept["metadata"], leaves), "", leaves, disabled)
    return [PlacedText(None, None, text) for text in texts]
