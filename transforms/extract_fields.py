"""ExtractFields: call the model for the prompt's fields of each segment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import apache_beam as beam

from promptreel.media.analysis import TIMELINE_FILE, MediaAnalysis, frames_of_span
from promptreel.providers.base import Provider, SegmentInput
from promptreel.providers.call_policy import CallSubject, CallTally
from promptreel.providers.chosen_media import choice_material, choose_media, sends_sound
from promptreel.providers.evidence_format import evidence_key, with_evidence
from promptreel.providers.extraction import (
    earlier_extraction_key,
    extraction_key,
    extraction_request,
    to_item_times,
)
from promptreel.providers.transcript import Transcript, words_of_span
from promptreel.schemas.errors import StorageError
from promptreel.schemas.media import SampledFrame, TimeSpan
from promptreel.schemas.speech_rows import Word
from promptreel.tables.layout import analysis_folder
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import OutcomeBatch, SegmentTask
from promptreel.transforms.model_dofn import ModelDoFn
from promptreel.transforms.model_session import ModelSession
from promptreel.transforms.read_evidence import evidence_of
from promptreel.transforms.reuse_fields import FieldReuse
from promptreel.transforms.segment_media import read_analysis
from promptreel.transforms.transcribe import load_transcript, transcript_key


class ExtractFields(beam.PTransform):
    """Map each distinct `SegmentTask` to an `OutcomeBatch`."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        if self._context.distributed:
            pcoll = pcoll | "Spread segments" >> beam.Reshuffle()
        return pcoll | "Ask" >> beam.ParDo(_ExtractFieldsFn(self._context)).with_output_types(OutcomeBatch)


class _ExtractFieldsFn(ModelDoFn[SegmentTask, OutcomeBatch]):
    async def open(self) -> None:
        await super().open()
        self._reuse = FieldReuse(self._context, self._session, operation_keys)

    async def handle(self, task: SegmentTask) -> OutcomeBatch:
        batch = await extract_fields(task, self._context, self._session, self._reuse)
        self._log.add_batch("field_extraction", batch)
        return batch


async def extract_fields(
    task: SegmentTask, context: RunContext, session: ModelSession, reuse: FieldReuse
) -> OutcomeBatch:
    """Extract the prompt's fields of one segment. The outcome is also that of its near-duplicates."""
    prompt = context.request.prompt
    input_transcript_key = _input_transcript_key(task, context, session.provider)
    key, earlier_key = operation_keys(task, context, session.provider)
    subject = CallSubject(context.run_id, task.video_id, task.segment_id, key, earlier_key)

    async def load_media() -> SegmentInput:
        transcript = load_transcript(session.cache, input_transcript_key)
        return await asyncio.to_thread(_sent_media, session, task, transcript, context)

    async def extract(tally: CallTally) -> dict[str, Any]:
        if (merged := await reuse.result(task, subject, tally, load_media)) is not None:
            return merged
        media = await load_media()
        request = with_evidence(extraction_request(prompt, media), context.evidence_fields)
        answer = await session.generate(request, subject, tally)
        metadata, warning = to_item_times(answer.metadata, prompt.json_schema, media)
        warnings = "; ".join(part for part in (answer.warning, warning) if part)
        evidence = await asyncio.to_thread(evidence_of, answer, media, context.evidence_fields)
        return {
            "metadata": metadata,
            "warning": warnings or None,
            "text": answer.text,
            **answer.origin(),
            **evidence,
        }

    outcome = await session.run_operation("field_extraction", key, extract, earlier_key)
    if task.duplicates:
        progress = context.progress(session.storage)
        progress.add_outcomes(outcome.operation, outcome.outcome, len(task.duplicates), reused=outcome.reused)
    return OutcomeBatch(task.video_id, tuple((segment_id, outcome) for segment_id in task.answered_ids))


def operation_keys(task: SegmentTask, context: RunContext, provider: Provider) -> tuple[str, str]:
    """Return the cache key of one segment's field extraction in this run, and the key that an earlier version used."""
    prompt, span = context.request.prompt, (task.planned.span.start_us, task.planned.span.end_us)
    transcript = _input_transcript_key(task, context, provider)
    choice = choice_material(provider, context.request.settings.model, task.media_type)
    key = extraction_key(provider, prompt, _item_key(task, provider), span, transcript, choice)
    earlier = earlier_extraction_key(provider, prompt, task.analysis_key, span, transcript, choice)
    fields = context.evidence_fields
    return context.scoped(evidence_key(key, fields)), context.scoped(evidence_key(earlier, fields))


def _item_key(task: SegmentTask, provider: Provider) -> str:
    """Return what identifies the media: a service receives pictures and sound, a model in this process the analysis."""
    return task.pictures_key if provider.is_called and task.pictures_key is not None else task.analysis_key


def _input_transcript_key(task: SegmentTask, context: RunContext, provider: Provider) -> str | None:
    """Return the key of the transcript that the model reads; None if it reads none."""
    request = context.request
    reads_it = provider.reads_transcript(request.prompt) and sends_sound(request.settings.model, task.media_type)
    return transcript_key(task.analysis_key, context) if reads_it else None


def _sent_media(
    session: ModelSession, task: SegmentTask, transcript: Transcript | None, context: RunContext
) -> SegmentInput:
    """Return what the model receives of one segment, as files on the local disk."""
    media = segment_media_of(session.storage, task, transcript)
    analysis, _ = read_analysis(session.storage, task.analysis_key)
    cuts_us = [transition.end_us for transition in analysis.transitions]
    try:
        return choose_media(session.provider, context.request.settings.model, media, cuts_us)
    except OSError as error:
        raise StorageError(f"a sampled frame of {task.video_id} cannot be read: {error}") from error


def segment_media_of(storage: Storage, task: SegmentTask, transcript: Transcript | None = None) -> SegmentInput:
    """Return one segment's frames, audio and words, as files on the local disk."""
    return media_of_span(storage, task.analysis_key, task.planned.span, transcript)


def media_of_span(storage: Storage, key: str, span: TimeSpan, transcript: Transcript | None = None) -> SegmentInput:
    """Return the frames, audio and words of a part of an item, as files on the local disk."""
    analysis, folder = read_analysis(storage, key)
    frames = frames_of_span(analysis.frames, span)
    _fetch_files(storage, key, analysis, [frame.file for frame in frames])
    is_last = span.end_us >= analysis.duration_us
    words = None if transcript is None else words_of_span(transcript.words, span, is_last)
    return _segment_input(analysis, folder, key, span, frames, words)


def _segment_input(
    analysis: MediaAnalysis,
    folder: Path,
    key: str,
    span: TimeSpan,
    frames: tuple[SampledFrame, ...],
    words: tuple[Word, ...] | None,
) -> SegmentInput:
    return SegmentInput(
        media_type=analysis.info.media_type,
        folder=folder,
        span=span,
        frames=frames,
        audio_file=analysis.audio_file,
        item_key=key,
        item_duration_us=analysis.duration_us,
        item_frames=analysis.frames,
        words=words,
    )


def _fetch_files(storage: Storage, key: str, analysis: MediaAnalysis, files: list[str]) -> None:
    for name in (TIMELINE_FILE, *([analysis.audio_file] if analysis.audio_file else []), *files):
        storage.local_file(f"{analysis_folder(key)}/{name}")
