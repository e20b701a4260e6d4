"""Pack speech into chunks for any recogniser, and map the recognised words back to item time.

A chunk contains complete stretches of speech without most of the silence between them. The recogniser returns words in
chunk time, which are mapped to item time. Each word belongs to the segment that contains its middle, so no word is lost
or duplicated at a segment boundary.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from promptreel.providers.transcript import Language, Utterance, text_of
from promptreel.schemas.media import SoundActivity, TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND
from promptreel.schemas.speech_rows import Word

VERSION: Final = 2  # part of every transcript key: increase it if the same sound is transcribed differently

# Whisper models process windows of 30 s at a constant cost; one second is left for their framing.
CHUNK_US: Final = 29 * US_PER_SECOND
# Padding on both sides of a stretch of speech, at most to the middle of the pause: after a long silence the speech
# detector can be half a second late, and recognisers handle an onset better than a hard edge.
PAD_US: Final = 600_000
# A word in speech may extend this far beyond it: recognisers add the silence between two words to one of them.
EDGE_US: Final = 200_000
# A word further than this from all speech is invented.
STRAY_US: Final = 500_000

# Thresholds of the Whisper reference code (openai/whisper, transcribe.py, defaults of `transcribe`).
NO_SPEECH_PROBABILITY: Final = 0.6
LOG_PROBABILITY: Final = -1.0
COMPRESSION_RATIO: Final = 2.4
# Words that a loop repeats have no sound to align with, so they have almost no duration.
MIN_WORD_US: Final = 50_000
LOOP_WORDS: Final = 3  # consecutive words without duration that are dropped as a loop


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the item inside a chunk.

    Attributes:
        span: the speech with padding on both sides, in item time.
        speech: the speech alone, in item time.
        at_us: its start in the chunk.
    """

    span: TimeSpan
    speech: TimeSpan
    at_us: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """One input of the recogniser: consecutive pieces without gaps."""

    pieces: tuple[Piece, ...]

    @property
    def duration_us(self) -> int:
        last = self.pieces[-1]
        return last.at_us + last.span.duration_us


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A recogniser's output for a part of a chunk, with words in chunk time.

    Attributes:
        no_speech_probability, mean_log_probability, compression_ratio: its confidence; see `drop_reason`.
    """

    words: tuple[Word, ...]
    no_speech_probability: float
    mean_log_probability: float
    compression_ratio: float


def utterances_of(
    chunk: Chunk, hypotheses: Sequence[Hypothesis], language: Language, speech: Sequence[TimeSpan]
) -> list[Utterance]:
    """Return one utterance for each piece of a chunk, with the words that belong to it.

    Args:
        hypotheses: the recogniser's output for the chunk.
        speech: all speech of the item; words far from it were not spoken.
    """
    spoken: dict[Piece, list[Word]] = {piece: [] for piece in chunk.pieces}
    dropped: dict[Piece, list[Word]] = {piece: [] for piece in chunk.pieces}
    sources: dict[Piece, Hypothesis] = {}
    reasons: dict[Piece, str] = {}
    for hypothesis in hypotheses:
        reason = drop_reason(hypothesis)
        placed = to_item_words(chunk, hypothesis.words if reason else spoken_words(hypothesis))
        for piece, word in placed:
            sources.setdefault(piece, hypothesis)
            if reason is not None:
                dropped[piece].append(word)
                reasons.setdefault(piece, reason)
            elif is_near_speech(word, speech):
                spoken[piece].append(word)
    return [
        _utterance(piece, spoken[piece], dropped[piece], language, sources.get(piece), reasons.get(piece))
        for piece in chunk.pieces
    ]


def _utterance(
    piece: Piece,
    spoken: Sequence[Word],
    dropped: Sequence[Word],
    language: Language,
    source: Hypothesis | None,
    reason: str | None,
) -> Utterance:
    words = tuple(sorted(spoken, key=lambda word: (word.start_us, word.end_us)))
    return Utterance(
        start_us=piece.speech.start_us,
        end_us=piece.speech.end_us,
        language=language,
        words=words,
        text=text_of(words or dropped),
        dropped_reason=None if words else reason or "not_recognized",
        no_speech_probability=None if source is None else round(source.no_speech_probability, 4),
        mean_log_probability=None if source is None else round(source.mean_log_probability, 4),
        compression_ratio=None if source is None else round(source.compression_ratio, 4),
    )


def speech_of(activity: SoundActivity) -> tuple[TimeSpan, ...]:
    """Return the stretches of speech of an item; empty if only a level detector ran, which cannot recognise speech."""
    return activity.spans if activity.detector == "silero" else ()


def pack_speech(speech: Sequence[TimeSpan], duration_us: int, chunk_us: int = CHUNK_US) -> tuple[Chunk, ...]:
    """Pack complete stretches of speech into chunks of at most `chunk_us`, in order.

    A single stretch that exceeds `chunk_us` is one chunk, because it has no pause to cut at.
    """
    chunks: list[Chunk] = []
    pieces: list[Piece] = []
    for span, core in _padded(speech, duration_us):
        at_us = pieces[-1].at_us + pieces[-1].span.duration_us if pieces else 0
        if pieces and at_us + span.duration_us > chunk_us:
            chunks.append(Chunk(tuple(pieces)))
            pieces, at_us = [], 0
        pieces.append(Piece(span, core, at_us))
    if pieces:
        chunks.append(Chunk(tuple(pieces)))
    return tuple(chunks)


def drop_reason(hypothesis: Hypothesis) -> str | None:
    """Return why a hypothesis is dropped as invented, a key of `DROPPED_REASONS`; None if it is used."""
    if is_loop(hypothesis):
        return "repetition"
    is_unsure = hypothesis.mean_log_probability < LOG_PROBABILITY
    is_silent = hypothesis.no_speech_probability > NO_SPEECH_PROBABILITY
    return "no_speech" if is_silent and is_unsure else None


def is_loop(hypothesis: Hypothesis) -> bool:
    """Whether a recogniser repeats itself: its text compresses well, and most of its words have no duration.

    In a sentence that is really repeated, or a chorus, every word has a duration.
    """
    if hypothesis.compression_ratio <= COMPRESSION_RATIO:
        return False
    return 2 * sum(_has_duration(word) for word in hypothesis.words) < len(hypothesis.words)


def spoken_words(hypothesis: Hypothesis) -> tuple[Word, ...]:
    """Return the words of a used hypothesis without the repetitions of a loop, which have no duration.

    Fewer than `LOOP_WORDS` words without duration are an artefact of alignment and are returned.
    """
    if hypothesis.compression_ratio <= COMPRESSION_RATIO:
        return hypothesis.words
    spoken: list[Word] = []
    for has_duration, run in itertools.groupby(hypothesis.words, _has_duration):
        words = list(run)
        if has_duration or len(words) < LOOP_WORDS:
            spoken += words
    return tuple(spoken)


def join_pieces(pieces: Sequence[Piece]) -> Chunk:
    """Return a chunk of pieces, one after the other."""
    joined, at_us = [], 0
    for piece in pieces:
        joined.append(Piece(piece.span, piece.speech, at_us))
        at_us += piece.span.duration_us
    return Chunk(tuple(joined))


def to_item_words(chunk: Chunk, words: Iterable[Word]) -> list[tuple[Piece, Word]]:
    """Return each word of a chunk with its piece, in item time.

    A word belongs to the piece whose speech it overlaps most, otherwise to the one that holds its end (the quiet before a
    word is often counted as part of it), and is cut to that piece.
    """
    return [_placed(chunk, word) for word in words]


def is_near_speech(word: Word, speech: Sequence[TimeSpan]) -> bool:
    """Whether a word overlaps speech or lies at most `STRAY_US` beside it."""
    return any(_touches(word, span) for span in speech)


def _padded(speech: Sequence[TimeSpan], duration_us: int) -> list[tuple[TimeSpan, TimeSpan]]:
    """Return (padded, original) for each stretch: padded by `PAD_US`, at most to the middle of the pause."""
    ordered = sorted(speech, key=lambda span: span.start_us)
    padded = []
    for number, span in enumerate(ordered):
        before = (ordered[number - 1].end_us + span.start_us + 1) // 2 if number else 0
        after = (span.end_us + ordered[number + 1].start_us) // 2 if number + 1 < len(ordered) else duration_us
        start, end = max(before, span.start_us - PAD_US, 0), min(after, span.end_us + PAD_US, duration_us)
        if start < end:
            padded.append((TimeSpan(start, end), span))
    return padded


def _placed(chunk: Chunk, word: Word) -> tuple[Piece, Word]:
    piece, room = _piece_of(chunk, word)
    shift = piece.span.start_us - piece.at_us
    start = min(max(word.start_us + shift, room.start_us), room.end_us)
    end = min(max(word.end_us + shift, start), room.end_us)
    return piece, Word(start, end, word.text, word.probability)


def _piece_of(chunk: Chunk, word: Word) -> tuple[Piece, TimeSpan]:
    """Return the piece that a word of a chunk belongs to, and the span that bounds it, in item time."""
    piece = max(chunk.pieces, key=lambda piece: _shared_us(word, piece))
    if _shared_us(word, piece) > 0:
        start = max(piece.span.start_us, piece.speech.start_us - EDGE_US)
        return piece, TimeSpan(start, min(piece.span.end_us, piece.speech.end_us + EDGE_US))
    piece = next((p for p in chunk.pieces if word.end_us <= p.at_us + p.span.duration_us), chunk.pieces[-1])
    return piece, piece.span


def _shared_us(word: Word, piece: Piece) -> int:
    """Return the overlap of a word with a piece's speech, in microseconds; 0 or less if they are apart."""
    shift = piece.at_us - piece.span.start_us
    return min(word.end_us, piece.speech.end_us + shift) - max(word.start_us, piece.speech.start_us + shift)


def _has_duration(word: Word) -> bool:
    return word.end_us - word.start_us >= MIN_WORD_US


def _touches(word: Word, span: TimeSpan) -> bool:
    return word.end_us >= span.start_us - STRAY_US and word.start_us <= span.end_us + STRAY_US
