"""Transcribe: what is spoken in each item, once for the whole of it."""

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
from promptreel.schemas.records import Word
from promptreel.tables.layout import analysis_folder, operation_file
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.progress import ProgressBoard
from promptreel.tables.stop_signal import StopSignal
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import ItemOutcome, ItemPlan, OutcomeBatch
from promptreel.transforms.item_dofn import ItemDoFn
from promptreel.transforms.local_operation import run_local_operation
from promptreel.transforms.segment_media import read_analysis

OUTCOMES: Final = "outcomes"
SEGMENTS: Final = "segments"


class Transcribe(beam.PTransform):
    """`ItemPlan`s to two outputs: "outcomes", an `OutcomeBatch` for every item, and "segments", the items' `SegmentTask`s
    once their transcripts are there."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcoll: beam.PCollection) -> Any:
        return pcoll | beam.ParDo(_TranscribeFn(self._context)).with_outputs(SEGMENTS, main=OUTCOMES)


class _TranscribeFn(ItemDoFn):
    def process(self, plan: ItemPlan) -> Iterator[Any]:
        yield transcribe_item(plan, self._context, self._storage, self._stop, self._progress)
        for task in plan.tasks:
            yield beam.pvalue.TaggedOutput(SEGMENTS, task)


def transcribe_item(
    plan: ItemPlan, context: RunContext, storage: Storage, stop: StopSignal, progress: ProgressBoard
) -> OutcomeBatch:
    """Runs one item's transcription to its outcome. It applies to items with sound; without weights there is none, but a
    warning."""
    key = plan.analysis_key
    settings = context.request.settings.transcription
    if key is None or not settings.enabled or not plan.tasks:
        return OutcomeBatch(plan.item.video_id)
    analysis, _ = read_analysis(storage, key)
    if analysis.audio_file is None:
        return OutcomeBatch(plan.item.video_id)
    weights = find_weights(settings.model)
    if not weights.available:
        warning = f"no transcription: {weights.reason}; {weights.fix}"
        return OutcomeBatch(plan.item.video_id, warnings=(warning,))
    transcriber = WhisperTranscriber(settings)
    kept_under = _key_of(key, transcriber, context)

    def make() -> dict[str, Any] | None:
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

    return run_local_operation(plan, "transcription", kept_under, make, context, OperationCache(storage), progress)


def transcript_key(analysis_key: str, context: RunContext) -> str | None:
    """Where an item's transcript is kept; None where there is none. (What is made without it must not be taken for what is
    made from it once it is there.)"""
    settings = context.request.settings.transcription
    if not settings.enabled or not find_weights(settings.model).available:
        return None
    key = _key_of(analysis_key, WhisperTranscriber(settings), context)
    return key if context.storage().exists(operation_file(key)) else None


def _key_of(analysis_key: str, transcriber: WhisperTranscriber, context: RunContext) -> str:
    fingerprint = transcriber.fingerprint()
    return context.scoped(digest({"operation": "transcription", "item": analysis_key, "model": fingerprint}))


def kept_transcript(cache: OperationCache, key: str | None) -> Transcript | None:
    """The transcript under a key; None without a key, and where it was not made."""
    try:
        return _read_transcript(cache, key) if key is not None else None
    except KeyError:
        return None


@functools.lru_cache(maxsize=8)  # segments of one item come one after another
def _read_transcript(cache: OperationCache, key: str) -> Transcript:
    kept = cache.get(key)
    if kept is None:
        raise KeyError(key)  # which is not remembered
    return transcript_from_dict(kept["transcript"])


def segment_words(item: ItemOutcome, number: int, cache: OperationCache) -> tuple[Word, ...] | None:
    """The words spoken in an item's segment of that number; None where there is no transcript."""
    segment = item.segments[number]
    outcome = segment.outcome_of("transcription")
    if outcome is None or outcome.outcome != "succeeded":
        return None
    transcript = kept_transcript(cache, outcome.key)
    is_last = number == len(item.segments) - 1
    return None if transcript is None else words_of_span(transcript.words, segment.task.planned.span, is_last)


def spoken_in(words: tuple[Word, ...] | None) -> str:
    """Words as text; empty without a transcript."""
    return text_of(words or ())
