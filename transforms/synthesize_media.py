"""SynthesizeMedia: brings each item's segments together and asks the model about the item as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import apache_beam as beam

from providers.answers import CheckedAnswer
from providers.base import ModelRequest
from providers.call_policy import CallSubject
from providers.synthesis import SegmentFinding, SynthesisSource, render_source, synthesis_key, synthesis_request
from tables.operation_cache import OperationCache
from transforms.context import RunContext
from transforms.elements import ItemOutcome, ItemPlan, OperationOutcome, SegmentOutcome
from transforms.extract_fields import item_media_of
from transforms.model_session import Made, ModelSession
from transforms.sliding_window import SlidingWindowDoFn


class SynthesizeMedia(beam.PTransform):
    """`{"items": ItemPlan, "segments": SegmentOutcome}` collections to one `ItemOutcome` for every item."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcolls: Mapping[str, beam.PCollection]) -> beam.PCollection:
        plans = pcolls["items"] | "Key plans" >> beam.WithKeys(lambda plan: plan.item.video_id).with_output_types(
            tuple[str, ItemPlan]
        )
        segments = pcolls["segments"] | "Key segments" >> beam.WithKeys(
            lambda segment: segment.task.video_id
        ).with_output_types(tuple[str, SegmentOutcome])
        return (
            {"items": plans, "segments": segments}
            | "Join" >> beam.CoGroupByKey()
            | "Assemble" >> beam.MapTuple(lambda _, groups: assemble_item(groups["items"], groups["segments"]))
            | "Synthesize" >> beam.ParDo(_SynthesizeFn(self._context)).with_output_types(ItemOutcome)
        )


class _SynthesizeFn(SlidingWindowDoFn[ItemOutcome, ItemOutcome]):
    def __init__(self, context: RunContext) -> None:
        super().__init__(context.request.settings.calls.max_in_flight)
        self._context = context

    async def open(self) -> None:
        self._session = ModelSession(self._context)
        await self._session.open()

    async def close(self) -> None:
        await self._session.close()

    async def handle(self, item: ItemOutcome) -> ItemOutcome:
        return await synthesize_item(item, self._context, self._session)


def assemble_item(plans: Iterable[ItemPlan], segments: Iterable[SegmentOutcome]) -> ItemOutcome:
    """One item with its segments in order of time; its synthesis is still to come."""
    (plan,) = plans
    ordered = sorted(segments, key=lambda segment: segment.task.number)
    if len(ordered) != plan.segment_count:
        raise RuntimeError(f"{plan.item.name}: {plan.segment_count} segments were planned, {len(ordered)} arrived")
    return ItemOutcome(plan, tuple(ordered), None)


async def synthesize_item(item: ItemOutcome, context: RunContext, session: ModelSession) -> ItemOutcome:
    """Runs one item's synthesis to its outcome. None is due without a video level, for an image (its one segment says
    all), and where no segment succeeded."""
    prompt, key = context.request.prompt, item.plan.analysis_key
    is_image = any(segment.task.media_type == "image" for segment in item.segments)
    if prompt.video_level is None or is_image or key is None:
        return item
    source = await asyncio.to_thread(source_of, item, context, session.cache)
    if not source.covered:
        return item
    operation_key = session.scoped(synthesis_key(session.provider, prompt, source, key))
    subject = CallSubject(context.run_id, item.plan.item.video_id, None, operation_key)

    async def build() -> ModelRequest:
        media = None
        if not session.provider.is_called:
            media = await asyncio.to_thread(item_media_of, session.storage, key)
        return synthesis_request(prompt, source, media)

    def finish(answer: CheckedAnswer) -> Made:
        return Made(answer.metadata, None, _coverage(source, len(item.segments)))

    outcome: OperationOutcome = await session.run_operation("synthesis", operation_key, subject, build, finish)
    return ItemOutcome(item.plan, item.segments, outcome)


def source_of(item: ItemOutcome, context: RunContext, cache: OperationCache) -> SynthesisSource:
    """The text that a synthesis of the item reads, from the operation cache."""
    findings = []
    for segment in item.segments:
        span = segment.task.planned.span
        kept = next((cache.get(o.key) for o in segment.outcomes if o.outcome == "succeeded"), None)
        metadata = None if kept is None else kept["metadata"]
        findings.append(SegmentFinding(segment.task.segment_id, span.start_us, span.end_us, metadata))
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
