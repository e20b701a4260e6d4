"""MarkSegments: a model marks the segments of items that are cut by the user's definition."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import apache_beam as beam

from promptreel.media.analysis import MediaAnalysis, frames_of_span, pictures_key
from promptreel.media.marked_plan import plan_marked
from promptreel.media.marks import Mark, plan_stretches, stitch_marks
from promptreel.providers.base import Provider
from promptreel.providers.call_policy import CallSubject, CallTally
from promptreel.providers.marking import marking_key, marking_request, read_marks
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.settings import RunSettings
from promptreel.tables.operation_cache import OperationCache
from promptreel.transforms.context import RunContext
from promptreel.transforms.dedupe_segments import deduped_plan
from promptreel.transforms.elements import ItemPlan, MediaItem, OperationOutcome
from promptreel.transforms.extract_fields import media_of_span
from promptreel.transforms.model_dofn import ModelDoFn
from promptreel.transforms.model_session import ModelSession
from promptreel.transforms.not_run import NotRun
from promptreel.transforms.sample_segments import sampled_plan
from promptreel.transforms.segment_media import ITEMS, SEGMENTS, count_plan, read_analysis, tasks_of

# Clips of this many stretches are in memory at once.
_MAX_STRETCHES: Final = 16
NOTHING_FITS: Final = NotRun("field_extraction", lacks="segments that fit the definition")


class MarkSegments(beam.PTransform):
    """Turn the `ItemPlan`s of `SegmentMedia` into its two outputs, with the segments that a model marks."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcoll: beam.PCollection) -> Any:
        if self._context.distributed:
            pcoll = pcoll | "Spread items" >> beam.Reshuffle()
        marked = pcoll | "Mark" >> beam.ParDo(_MarkSegmentsFn(self._context)).with_output_types(ItemPlan)
        return marked | "Emit" >> beam.ParDo(_EmitFn()).with_outputs(ITEMS, main=SEGMENTS)


class _EmitFn(beam.DoFn):
    def process(self, plan: ItemPlan) -> Iterator[Any]:
        yield from plan.distinct_tasks
        yield beam.pvalue.TaggedOutput(ITEMS, plan)


class _MarkSegmentsFn(ModelDoFn[ItemPlan, ItemPlan]):
    async def open(self) -> None:
        await super().open()
        self._slots = asyncio.Semaphore(_MAX_STRETCHES)
        self._progress = self._context.progress(self._session.storage)

    async def handle(self, plan: ItemPlan) -> ItemPlan:
        if plan.is_marked:
            return plan
        plan = await mark_item(plan, self._context, self._session, self._slots)
        plan = await asyncio.to_thread(deduped_plan, plan, self._context, self._session.storage)
        count_plan(plan, self._progress, self._log)
        return plan


async def mark_item(plan: ItemPlan, context: RunContext, session: ModelSession, slots: asyncio.Semaphore) -> ItemPlan:
    """Plan the segments of one item from the marks of all its stretches. A stretch that fails fails the item."""
    assert plan.analysis_key is not None
    analysis, _ = await asyncio.to_thread(read_analysis, session.storage, plan.analysis_key)
    stretches = stretches_of(analysis, context.request.settings)

    async def mark(span: TimeSpan) -> OperationOutcome:
        async with slots:
            return await _mark_stretch(plan, analysis, span, context, session)

    outcomes = await asyncio.gather(*map(mark, stretches))
    attempts = sum(outcome.attempts for outcome in outcomes)
    for outcome in outcomes:
        if outcome.failure is not None:
            failed = replace(plan, is_marked=True, attempts=attempts, failed_key=outcome.key)
            return replace(failed, failure=outcome.failure)
    if any(outcome.outcome == "cancelled" for outcome in outcomes):
        return replace(plan, is_marked=True, cancelled=True)
    marks = [await asyncio.to_thread(_stored_marks, session.cache, outcome.key) for outcome in outcomes]
    return marked_plan(plan, analysis, stretches, marks, context.request.settings)


async def _mark_stretch(
    plan: ItemPlan, analysis: MediaAnalysis, span: TimeSpan, context: RunContext, session: ModelSession
) -> OperationOutcome:
    assert plan.analysis_key is not None
    analysis_key, settings = plan.analysis_key, context.request.settings
    definition = settings.segmentation.definition_of(analysis.info.media_type)
    assert definition is not None
    key = stretch_key(plan.item, analysis, span, context, session.provider)
    subject = CallSubject(context.run_id, plan.item.video_id, None, key)

    async def compute(tally: CallTally) -> dict[str, Any]:
        media = await asyncio.to_thread(media_of_span, session.storage, analysis_key, span)
        min_us = _min_us(analysis, settings)
        answer = await session.generate(marking_request(definition, media, min_us), subject, tally)
        marks = read_marks(answer.metadata, span, min_us)
        stored = [[mark.start_us, mark.end_us, mark.label] for mark in marks]
        return {"marks": stored, "text": answer.text, "warning": answer.warning, **answer.origin()}

    return await session.run_operation("processing", key, compute)


def stretches_of(analysis: MediaAnalysis, settings: RunSettings) -> list[TimeSpan]:
    """Return the stretches of an item that a model marks."""
    return plan_stretches(settings.segmentation.range_of(analysis.duration_us))


def stretch_key(
    item: MediaItem, analysis: MediaAnalysis, span: TimeSpan, context: RunContext, provider: Provider
) -> str:
    """Return the cache key of the marks of one stretch in this run."""
    settings = context.request.settings
    definition = settings.segmentation.definition_of(analysis.info.media_type)
    assert definition is not None
    assert item.content_hash is not None
    with_offsets = settings.model.media_input == "files"  # the service receives the complete item
    frames = analysis.frames if with_offsets else frames_of_span(analysis.frames, span)
    item_key = pictures_key(item.content_hash, settings.sampling, frames)
    return context.scoped(marking_key(provider, definition, item_key, span))


def marked_plan(
    plan: ItemPlan,
    analysis: MediaAnalysis,
    stretches: Sequence[TimeSpan],
    marks: Sequence[Sequence[Mark]],
    settings: RunSettings,
) -> ItemPlan:
    """Return the plan of an item with the segments that a model marked in its stretches."""
    assert plan.analysis_key is not None
    stitched = stitch_marks(list(zip(stretches, marks, strict=True)), _min_us(analysis, settings))
    planned = plan_marked(
        stitched,
        analysis.info.media_type,
        analysis.duration_us,
        analysis.transitions,
        analysis.activity,
        settings.segmentation,
    )
    tasks = tasks_of(plan.item.video_id, plan.analysis_key, analysis, settings, planned, plan.item.content_hash)
    marked = replace(plan, is_marked=True, tasks=tuple(tasks), warnings=() if tasks else (NOTHING_FITS,))
    return sampled_plan(marked, settings)


def cached_plan(
    plan: ItemPlan, analysis: MediaAnalysis, context: RunContext, cache: OperationCache, provider: Provider
) -> tuple[ItemPlan | None, list[TimeSpan]]:
    """Return the plan if the marks of all stretches are cached, otherwise None; and the stretches without marks."""
    stretches = stretches_of(analysis, context.request.settings)
    keys = [stretch_key(plan.item, analysis, span, context, provider) for span in stretches]
    missing = [span for span, key in zip(stretches, keys, strict=True) if cache.get(key) is None]
    if missing:
        return None, missing
    marks = [_stored_marks(cache, key) for key in keys]
    return marked_plan(plan, analysis, stretches, marks, context.request.settings), []


def _stored_marks(cache: OperationCache, key: str) -> list[Mark]:
    stored = cache.get(key)
    assert stored is not None, "an operation that succeeded is cached"
    return [Mark(start_us, end_us, label) for start_us, end_us, label in stored["marks"]]


def _min_us(analysis: MediaAnalysis, settings: RunSettings) -> int:
    segmentation = settings.segmentation
    shortest_us = segmentation.bounds_of(analysis.info.media_type).min_us
    return min(shortest_us, segmentation.range_of(analysis.duration_us).duration_us)
