"""What the operation cache already has of an item, for the estimate of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from promptreel.providers.base import Provider
from promptreel.providers.token_estimate import has_synthesis
from promptreel.tables.operation_cache import OperationCache
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import ItemOutcome, ItemPlan, OperationOutcome, SegmentOutcome
from promptreel.transforms.extract_fields import operation_keys
from promptreel.transforms.synthesize_media import source_of, synthesis_keys
from promptreel.transforms.transcribe import transcript_key


def cached_outcome(plan: ItemPlan, context: RunContext, cache: OperationCache, provider: Provider) -> ItemOutcome:
    """Return the outcome of an item as far as its operations are cached."""
    assert plan.analysis_key is not None
    transcription = transcript_key(plan.analysis_key, context)
    transcribed = () if transcription is None else (OperationOutcome("transcription", "succeeded", transcription),)
    segments = []
    keys_of: dict[str, str | None] = {}
    for task in plan.tasks:
        if task.answered_by is None:
            keys_of[task.segment_id] = _cached_key(cache, operation_keys(task, context, provider))
        key = keys_of[task.answered_by or task.segment_id]
        extracted = (OperationOutcome("field_extraction", "succeeded", key),) if key is not None else ()
        segments.append(SegmentOutcome(task, (*extracted, *transcribed)))
    item = ItemOutcome(plan, tuple(segments))
    is_complete = all(segment.outcome_of("field_extraction") is not None for segment in segments)
    prompt = context.request.prompt
    if (
        not is_complete
        or not segments
        or plan.sampled_from is not None
        or not has_synthesis(prompt, segments[0].task.media_type)
    ):
        return item
    transcript = transcription if provider.reads_transcript(prompt) else None
    keys = synthesis_keys(plan, source_of(item, context, cache), context, provider, transcript)
    key = _cached_key(cache, keys)
    return item if key is None else replace(item, synthesis=OperationOutcome("synthesis", "succeeded", key))


def _cached_key(cache: OperationCache, keys: Iterable[str]) -> str | None:
    """Return the first key under which a result is cached; None if all are missing."""
    return next((key for key in keys if cache.get(key) is not None), None)
