"""What an estimate knows about an item from the operation cache: its finished results, and the fields it must request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from promptreel.providers.base import Provider
from promptreel.providers.schema_fields import prompt_of_fields
from promptreel.providers.token_estimate import has_synthesis
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.prompt import Prompt
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import ItemOutcome, ItemPlan, OperationOutcome, SegmentOutcome, SegmentTask
from promptreel.transforms.extract_fields import operation_keys
from promptreel.transforms.reuse_fields import EarlierAnswers, merged_result
from promptreel.transforms.synthesize_media import source_of, synthesis_keys
from promptreel.transforms.transcribe import transcript_key


class MergedCache(OperationCache):
    """The operation cache with the results of one item that its run would merge from earlier answers without a call."""

    def __init__(self, storage: Storage, answers: EarlierAnswers) -> None:
        super().__init__(storage)
        self._answers = answers
        self._merged: dict[str, dict[str, Any]] = {}
        self._missing: dict[str, tuple[str, ...]] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        return self._merged.get(key) or super().get(key)

    def merge(self, task: SegmentTask, key: str) -> str | None:
        """Return the key of a segment's result if earlier answers have all its fields.

        Raises:
            StorageError: storage is unavailable.
        """
        search = self._answers.search()
        while search is not None and (schema := search.next()) is not None:
            earlier_key = self._answers.key(task, schema)
            if (stored := super().get(earlier_key)) is not None:
                search.use(schema, earlier_key, stored)
        if search is None or not search.used:
            return None
        if search.missing:
            self._missing[task.segment_id] = search.missing
            return None
        if (result := merged_result(search, task.planned.span, None)) is None:
            return None
        self._merged[key] = result
        return key

    def requests(self, tasks: Iterable[SegmentTask], prompt: Prompt) -> list[tuple[Prompt, Counter[float]]]:
        """Return the prompts that segments without a result get, each with the lengths of the segments in seconds.

        The complete prompt comes first; the others request only the missing fields.
        """
        lengths: dict[Sequence[str], Counter[float]] = {(): Counter()}
        for task in tasks:
            names = self._missing.get(task.segment_id, ())
            lengths.setdefault(names, Counter())[seconds_from_us(task.planned.span.duration_us)] += 1
        return [(prompt_of_fields(prompt, names) if names else prompt, part) for names, part in lengths.items()]


def cached_outcome(plan: ItemPlan, context: RunContext, cache: MergedCache, provider: Provider) -> ItemOutcome:
    """Return the outcome of an item as far as its operations are cached, or merged from cached ones."""
    assert plan.analysis_key is not None
    transcription = transcript_key(plan.analysis_key, context)
    transcribed = () if transcription is None else (OperationOutcome("transcription", "succeeded", transcription),)
    segments = []
    keys_of: dict[str, str | None] = {}
    for task in plan.tasks:
        if task.answered_by is None:
            keys = operation_keys(task, context, provider)
            keys_of[task.segment_id] = _cached_key(cache, keys) or cache.merge(task, keys[0])
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
