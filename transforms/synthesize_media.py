"""SynthesizeMedia: join each item's segments and call the model for item-level fields."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import apache_beam as beam

from promptreel.providers.base import Provider
from promptreel.providers.call_policy import CallSubject, CallTally
from promptreel.providers.synthesis import (
    SegmentFinding,
    SynthesisSource,
    earlier_synthesis_key,
    render_source,
    synthesis_key,
    synthesis_request,
)
from promptreel.schemas.ids import digest
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.outcomes import OPERATIONS
from promptreel.tables.operation_cache import OperationCache
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import (
    ItemOutcome,
    ItemPlan,
    OperationOutcome,
    OutcomeBatch,
    SegmentOutcome,
)
from promptreel.transforms.extract_fields import media_of_span
from promptreel.transforms.model_dofn import ModelDoFn
from promptreel.transforms.model_session import ModelSession
from promptreel.transforms.not_run import NotRun
from promptreel.transforms.transcribe import (
    load_transcript,
    segment_words,
    spoken_text,
    transcript_key,
)


class SynthesizeMedia(beam.PTransform):
    """Join the collections `{"items": ItemPlan, "outcomes": OutcomeBatch}` into one `ItemOutcome` per item."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcolls: Mapping[str, beam.PCollection]) -> beam.PCollection:
        plans = pcolls["items"] | "Key plans" >> beam.WithKeys(lambda plan: plan.item.video_id).with_output_types(
            tuple[str, ItemPlan]
        )
        outcomes = pcolls["outcomes"] | "Key outcomes" >> beam.WithKeys(lambda batch: batch.video_id).with_output_types(
            tuple[str, OutcomeBatch]
        )
        return (
            {"items": plans, "outcomes": outcomes}
            | "Join" >> beam.CoGroupByKey()
            | "Assemble" >> beam.MapTuple(lambda _, groups: assemble_item(groups["items"], groups["outcomes"]))
            | "Synthesize" >> beam.ParDo(_SynthesizeFn(self._context)).with_output_types(ItemOutcome)
        )


class _SynthesizeFn(ModelDoFn[ItemOutcome, ItemOutcome]):
    async def handle(self, item: ItemOutcome) -> ItemOutcome:
        item = await synthesize_item(item, self._context, self._session)
        self._log.add_item_outcome(item.plan.item.video_id, "synthesis", item.synthesis)
        return item


def assemble_item(plans: Iterable[ItemPlan], batches: Iterable[OutcomeBatch]) -> ItemOutcome:
    """Join one item's plan and outcomes into its segments, ordered by time. The synthesis is added later."""
    (plan,) = plans
    found: dict[str, list[OperationOutcome]] = {task.segment_id: [] for task in plan.tasks}
    warnings: list[NotRun] = [*plan.warnings]
    for batch in batches:
        warnings += batch.warnings
        for segment_id, outcome in batch.outcomes:
            found[segment_id].append(outcome)
    segments = []
    for task in plan.tasks:
        outcomes = sorted(found[task.segment_id], key=lambda outcome: OPERATIONS.index(outcome.operation))
        if not outcomes or outcomes[0].operation != "field_extraction":
            raise RuntimeError(f"{plan.item.name}: segment {task.segment_id} has no field_extraction outcome")
        segments.append(SegmentOutcome(task, tuple(outcomes)))
    return ItemOutcome(plan, tuple(segments), warnings=tuple(sorted(set(warnings))))


async def synthesize_item(item: ItemOutcome, context: RunContext, session: ModelSession) -> ItemOutcome:
    """Synthesize one item.

    Skipped if the prompt has no video level, for an image (its one segment covers everything), for a sample of the item's
    segments, which would misrepresent it, and if no segment succeeded.
    """
    prompt, key = context.request.prompt, item.plan.analysis_key
    is_image = any(segment.task.media_type == "image" for segment in item.segments)
    if prompt.video_level is None or is_image or key is None:
        return item
    if item.plan.sampled_from is not None:
        return replace(item, warnings=(*item.warnings, NotRun("synthesis", "the run samples the segments of items")))
    source = await asyncio.to_thread(source_of, item, context, session.cache)
    if not source.covered:
        return item
    input_transcript_key = transcript_key(key, context) if session.provider.reads_transcript(prompt) else None
    operation_key, earlier_key = synthesis_keys(item.plan, source, context, session.provider, input_transcript_key)
    subject = CallSubject(context.run_id, item.plan.item.video_id, None, operation_key, earlier_key)

    async def synthesize(tally: CallTally) -> dict[str, Any]:
        media = None
        if not session.provider.is_called:
            transcript = load_transcript(session.cache, input_transcript_key)
            media = await asyncio.to_thread(media_of_span, session.storage, key, item.plan.span, transcript)
        answer = await session.generate(synthesis_request(prompt, source, media), subject, tally)
        coverage = _coverage(source, len(item.segments))
        overlap = _overlap_warning(source) if session.provider.is_called else None
        warnings = "; ".join(part for part in (answer.warning, overlap) if part)
        result = {"metadata": answer.metadata, "warning": warnings or None, "text": answer.text}
        return {**result, **answer.origin(), **coverage}

    outcome = await session.run_operation("synthesis", operation_key, synthesize, earlier_key)
    return replace(item, synthesis=outcome)


def synthesis_keys(
    plan: ItemPlan, source: SynthesisSource, context: RunContext, provider: Provider, transcript: str | None
) -> tuple[str, str]:
    """Return the cache key of an item's synthesis in this run, and the key that an earlier version used.

    A service receives only the text, so its key names the file and not how the file was sampled.
    """
    prompt, analysis_key = context.request.prompt, plan.analysis_key
    assert analysis_key is not None
    is_text_only = provider.is_called and plan.item.content_hash
    item_key = str(plan.item.content_hash) if is_text_only else _measured_key(plan, analysis_key)
    key = synthesis_key(provider, prompt, source, item_key, transcript)
    earlier = earlier_synthesis_key(provider, prompt, source, analysis_key, transcript)
    return context.scoped(key), context.scoped(earlier)


def _measured_key(plan: ItemPlan, analysis_key: str) -> str:
    """Return the key of the part of an item that a model measures itself."""
    if plan.tasks[0].planned.start.reason == "start" and plan.tasks[-1].planned.end.reason == "end":
        return analysis_key
    return digest([analysis_key, plan.span.start_us, plan.span.end_us])


def _overlap_warning(source: SynthesisSource) -> str | None:
    if not source.overlap_us:
        return None
    seconds = f"{seconds_from_us(source.overlap_us):g}"
    return f"segments overlap: {seconds} s of the item are in more than one; the model was told which"


def source_of(item: ItemOutcome, context: RunContext, cache: OperationCache) -> SynthesisSource:
    """Build the text that the item's synthesis reads, from the operation cache."""
    findings = []
    heard_until_us = 0  # the words of overlapping segments are read once
    for segment in item.segments:
        span = segment.task.planned.span
        extraction = segment.outcome_of("field_extraction")
        succeeded = extraction is not None and extraction.outcome == "succeeded"
        stored = cache.get(extraction.key) if extraction is not None and succeeded else None
        metadata = None if stored is None else stored["metadata"]
        words = segment_words(segment, cache) or ()
        spoken = spoken_text(tuple(word for word in words if (word.start_us + word.end_us) // 2 >= heard_until_us))
        if metadata is not None:
            heard_until_us = max(heard_until_us, span.end_us)
        findings.append(SegmentFinding(segment.task.segment_id, span.start_us, span.end_us, metadata, spoken))
    return render_source(context.request.prompt, findings)


def _coverage(source: SynthesisSource, segment_count: int) -> dict[str, Any]:
    return {
        "segment_count": segment_count,
        "covered_segments": len(source.covered),
        "omitted_segment_ids": list(source.omitted),
        "template_fields": list(source.template_fields),
        "source_fingerprint": source.fingerprint,
        "rendered_prompt_chars": len(source.text),
    }
