"""Rows of the speech in one segment: its transcript and its utterances."""

from __future__ import annotations

from collections.abc import Iterator

from promptreel.providers.transcript import Transcript, Utterance, dominant_language, text_of, utterances_of_span
from promptreel.schemas.arrow import row_of
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.speech_rows import TranscriptRow, UtteranceRow
from promptreel.transforms.elements import SegmentOutcome
from promptreel.transforms.rows.source import Row, RowSource
from promptreel.transforms.transcribe import load_transcript, segment_words


def transcript_rows(segment: SegmentOutcome, source: RowSource) -> Iterator[Row]:
    """Yield the transcript of a segment, if the item was transcribed."""
    words = segment_words(segment, source.cache)
    if words is None:
        return
    transcript = _transcript_of(segment, source)
    task, span = segment.task, segment.task.planned.span
    language = dominant_language(_utterances(segment, transcript))
    yield row_of(
        TranscriptRow(
            run_id=source.run_id,
            video_id=task.video_id,
            segment_id=task.segment_id,
            model=transcript.model,
            language=None if language is None else language.code,
            start_us=span.start_us,
            end_us=span.end_us,
            text=text_of(words),
            words=words,
            language_probability=None if language is None else language.probability,
        )
    )


def utterance_rows(segment: SegmentOutcome, source: RowSource) -> Iterator[Row]:
    """Yield the utterances of a segment, including those without words."""
    if segment_words(segment, source.cache) is None:
        return
    task = segment.task
    for utterance in _utterances(segment, _transcript_of(segment, source)):
        yield row_of(
            UtteranceRow(
                run_id=source.run_id,
                video_id=task.video_id,
                segment_id=task.segment_id,
                start_us=utterance.start_us,
                end_us=utterance.end_us,
                start_time=seconds_from_us(utterance.start_us),
                end_time=seconds_from_us(utterance.end_us),
                language=utterance.language.code,
                language_probability=utterance.language.probability,
                text=utterance.text,
                dropped_reason=utterance.dropped_reason,
                no_speech_probability=utterance.no_speech_probability,
                mean_log_probability=utterance.mean_log_probability,
                compression_ratio=utterance.compression_ratio,
                channel=utterance.channel,
            )
        )


def _transcript_of(segment: SegmentOutcome, source: RowSource) -> Transcript:
    outcome = segment.outcome_of("transcription")
    transcript = load_transcript(source.cache, outcome.key if outcome is not None else None)
    assert transcript is not None
    return transcript


def _utterances(segment: SegmentOutcome, transcript: Transcript) -> tuple[Utterance, ...]:
    planned = segment.task.planned
    return utterances_of_span(transcript.utterances, planned.span, planned.is_last)
