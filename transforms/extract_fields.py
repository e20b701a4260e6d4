"""ExtractFields: asks the model for the prompt's fields of each segment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apache_beam as beam

from media.analysis import TIMELINE_FILE, MediaAnalysis, frames_of_span
from providers.answers import CheckedAnswer
from providers.base import ModelRequest, SegmentMedia
from providers.call_policy import CallSubject
from providers.extraction import extraction_key, extraction_request, place_times
from schemas.media import TimeSpan
from tables.layout import analysis_folder
from tables.storage import Storage
from transforms.context import RunContext
from transforms.elements import SegmentOutcome, SegmentTask
from transforms.model_session import Made, ModelSession
from transforms.segment_media import read_analysis
from transforms.sliding_window import SlidingWindowDoFn


class ExtractFields(beam.PTransform):
    """`SegmentTask`s to `SegmentOutcome`s."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        if self._context.distributed:
            pcoll = pcoll | "Spread segments" >> beam.Reshuffle()
        return pcoll | "Ask" >> beam.ParDo(_ExtractFieldsFn(self._context)).with_output_types(SegmentOutcome)


class _ExtractFieldsFn(SlidingWindowDoFn[SegmentTask, SegmentOutcome]):
    def __init__(self, context: RunContext) -> None:
        super().__init__(context.request.settings.calls.max_in_flight)
        self._context = context

    async def open(self) -> None:
        self._session = ModelSession(self._context)
        await self._session.open()

    async def close(self) -> None:
        await self._session.close()

    async def handle(self, task: SegmentTask) -> SegmentOutcome:
        return await extract_fields(task, self._context, self._session)


async def extract_fields(task: SegmentTask, context: RunContext, session: ModelSession) -> SegmentOutcome:
    """Runs one segment's field extraction to its outcome."""
    prompt = context.request.prompt
    span = task.planned.span
    key = session.scoped(extraction_key(session.provider, prompt, task.analysis_key, (span.start_us, span.end_us)))
    subject = CallSubject(context.run_id, task.video_id, task.segment_id, key)
    media: SegmentMedia | None = None

    async def build() -> ModelRequest:
        nonlocal media
        media = await asyncio.to_thread(segment_media_of, session.storage, task)
        return extraction_request(prompt, media)

    def finish(answer: CheckedAnswer) -> Made:
        assert media is not None
        metadata, warning = place_times(answer.metadata, prompt.leaves, media)
        return Made(metadata, warning)

    outcome = await session.run_operation("field_extraction", key, subject, build, finish)
    return SegmentOutcome(task, (outcome,))


def segment_media_of(storage: Storage, task: SegmentTask) -> SegmentMedia:
    """What is at hand of one segment, on local disk."""
    analysis, folder = read_analysis(storage, task.analysis_key)
    span = task.planned.span
    frames = frames_of_span(analysis.frames, span)
    _make_local(storage, task.analysis_key, analysis, [frame.file for frame in frames])
    return _media(analysis, folder, task.analysis_key, span, frames)


def item_media_of(storage: Storage, key: str) -> SegmentMedia:
    """What is at hand of a whole item, on local disk, for a model that measures."""
    analysis, folder = read_analysis(storage, key)
    _make_local(storage, key, analysis, [])
    return _media(analysis, folder, key, TimeSpan(0, analysis.duration_us), ())


def _media(analysis: MediaAnalysis, folder: Path, key: str, span: TimeSpan, frames: tuple) -> SegmentMedia:  # type: ignore[type-arg]
    return SegmentMedia(
        media_type=analysis.info.media_type,
        folder=folder,
        span=span,
        frames=frames,
        audio_file=analysis.audio_file,
        item_key=key,
        item_duration_us=analysis.duration_us,
        item_frames=analysis.frames,
    )


def _make_local(storage: Storage, key: str, analysis: MediaAnalysis, files: list[str]) -> None:
    for name in (TIMELINE_FILE, *([analysis.audio_file] if analysis.audio_file else []), *files):
        storage.local_file(f"{analysis_folder(key)}/{name}")
