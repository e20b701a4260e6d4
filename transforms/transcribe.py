"""Transcribe: transcribe each item once."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final

import apache_beam as beam

from promptreel.providers.transcript import Transcript, merge_channels, text_of, transcript_from_dict, words_of_span
from promptreel.providers.transcription import speech_of
from promptreel.providers.whisper import WhisperTranscriber, find_weights
from promptreel.schemas.ids import digest
from promptreel.schemas.media import ChannelSound
from promptreel.schemas.speech_rows import Word
from promptreel.tables.layout import analysis_folder, operation_file
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.progress import ProgressBoard
from promptreel.tables.stop_signal import StopSignal
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import ItemPlan, OutcomeBatch, SegmentOutcome
from promptreel.transforms.item_dofn import ItemDoFn
from promptreel.transforms.local_operation import run_local_operation
from promptreel.transforms.not_run import NotRun
from promptreel.transforms.segment_media import read_analysis

OUTCOMES: Final = "outcomes"
SEGMENTS: Final = "segments"


class Transcribe(beam.PTransform):
    """Turn `ItemPlan`s into two outputs: "outcomes", an `OutcomeBatch` per item, and "segments", the distinct
    `SegmentTask`s.

    The tasks of an item follow its outcome, so its transcript is available to them.
    """

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcoll: beam.PCollection) -> Any:
        return pcoll | beam.ParDo(_TranscribeFn(self._context)).with_outputs(SEGMENTS, main=OUTCOMES)


class _TranscribeFn(ItemDoFn):
    def process(self, plan: ItemPlan) -> Iterator[Any]:
        batch = transcribe_item(plan, self._context, self._storage, self._stop, self._progress)
        self._log.add_batch("transcription", batch)
        yield batch
        for task in plan.distinct_tasks:
            yield beam.pvalue.TaggedOutput(SEGMENTS, task)


def transcribe_item(
    plan: ItemPlan, context: RunContext, storage: Storage, stop: StopSignal, progress: ProgressBoard
) -> OutcomeBatch:
    """Transcribe one item. Without sound or weights there is no outcome, only a warning."""
    key = plan.analysis_key
    settings = context.request.settings.transcription
    if key is None or not settings.enabled or not plan.tasks:
        return OutcomeBatch(plan.item.video_id)
    analysis, _ = read_analysis(storage, key)
    if analysis.audio_file is None:
        return OutcomeBatch(plan.item.video_id, warnings=(NotRun("transcription", lacks="sound"),))
    weights = find_weights(settings.model)
    if not weights.available:
        warning = NotRun("transcription", f"{weights.reason}; {weights.fix}")
        return OutcomeBatch(plan.item.video_id, warnings=(warning,))
    transcriber = WhisperTranscriber(settings)
    transcription_key = _key_of(key, transcriber, context)

    def compute() -> dict[str, Any] | None:
        if stop.is_set():
            return None
        channels = analysis.channels or (ChannelSound(str(analysis.audio_file), analysis.activity),)
        transcripts = []
        for channel in channels:
            audio = storage.local_file(f"{analysis_folder(key)}/{channel.file}")
            found = transcriber.transcribe(audio, speech_of(channel.activity), analysis.duration_us, stop.is_set)
            if found is None:
                return None
            transcripts.append(found)
        return {"transcript": (merge_channels(transcripts) if analysis.channels else transcripts[0]).to_dict()}

    return run_local_operation(
        plan, "transcription", transcription_key, compute, context, OperationCache(storage), progress
    )


def transcript_key(analysis_key: str, context: RunContext) -> str | None:
    """Return the key of an item's stored transcript, or None if it has none.

    The key is part of the keys of results that depend on the transcript, so results computed without one are not reused
    once it exists.
    """
    settings = context.request.settings.transcription
    if not settings.enabled or not find_weights(settings.model).available:
        return None
    key = _key_of(analysis_key, WhisperTranscriber(settings), context)
    return key if context.storage().exists(operation_file(key)) else None


def _key_of(analysis_key: str, transcriber: WhisperTranscriber, context: RunContext) -> str:
    fingerprint = transcriber.fingerprint()
    return context.scoped(digest({"operation": "transcription", "item": analysis_key, "model": fingerprint}))


def load_transcript(cache: OperationCache, key: str | None) -> Transcript | None:
    """Load the transcript with a key; None if the key is None or no transcript is stored."""
    try:
        return _read_transcript(cache, key) if key is not None else None
    except KeyError:
        return None


@functools.lru_cache(maxsize=8)  # the segments of one item are processed consecutively
def _read_transcript(cache: OperationCache, key: str) -> Transcript:
    stored = cache.get(key)
    if stored is None:
        raise KeyError(key)  # not None, which lru_cache would store
    return transcript_from_dict(stored["transcript"])


def segment_words(segment: SegmentOutcome, cache: OperationCache) -> tuple[Word, ...] | None:
    """Return the words spoken in a segment; None without a transcript."""
    outcome = segment.outcome_of("transcription")
    if outcome is None or outcome.outcome != "succeeded":
        return None
    transcript = load_transcript(cache, outcome.key)
    planned = segment.task.planned
    return None if transcript is None else words_of_span(transcript.words, planned.span, planned.is_last)


def spoken_text(words: tuple[Word, ...] | None) -> str:
    """Return the words as text; empty without a transcript."""
    return text_of(words or ())
