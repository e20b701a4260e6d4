"""The rows of the tables `transcripts` and `utterances`; see `promptreel.schemas.table_rows`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word, with its probability in 0..1."""

    start_us: int
    end_us: int
    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class UtteranceRow:
    """One stretch of speech between two pauses, or the part of it in one segment.

    Attributes:
        language: ISO 639-1 code.
        language_probability: probability of the language, 0..1; null if the language was given.
        text: the words; if the recogniser's output was dropped, what it was.
        dropped_reason: why the text is not part of the transcript; null if it is.
        no_speech_probability, mean_log_probability, compression_ratio: the recogniser's doubts; null without output.
        channel: 0 for the left and 1 for the right channel, if each has its own speaker; otherwise null.
    """

    run_id: str
    video_id: str
    segment_id: str
    start_us: int
    end_us: int
    start_time: float
    end_time: float
    language: str
    language_probability: float | None
    text: str
    dropped_reason: str | None
    no_speech_probability: float | None
    mean_log_probability: float | None
    compression_ratio: float | None
    channel: int | None


@dataclass(frozen=True, slots=True)
class TranscriptRow:
    """The transcript of one segment.

    Attributes:
        language: language of most words, an ISO 639-1 code; null without words.
        language_probability: its mean probability over those words; null without words, or if the language was given.
    """

    run_id: str
    video_id: str
    segment_id: str
    model: str
    language: str | None
    start_us: int
    end_us: int
    text: str
    words: tuple[Word, ...]
    language_probability: float | None = None  # added later: parts of earlier versions lack it
