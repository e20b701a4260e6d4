"""What is spoken in an item, whatever the recogniser: packing speech for it, and placing the words that come back.

Speech is handed over in chunks of whole stretches between pauses, with the quiet between them left out. Words come back
with times of the chunk and are put back on the item's time; each belongs to the segment that holds its middle, so no
word is lost or doubled at a segment's edge.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from promptreel.schemas.media import SoundActivity, TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND
from promptreel.schemas.records import Word

VERSION: Final = 1  # part of every transcript's key: raise it when the same sound would be transcribed differently

# Recognisers of the Whisper family read 30 s at once and pay for all of it; a second is left for their framing.
CHUNK_US: Final = 29 * US_PER_SECOND
# What is read on both sides of a stretch, at most to the middle of the pause: after long quiet the speech detector can be
# half a second late, and a recogniser hears an onset better than a hard edge.
PAD_US: Final = 600_000
# A word that lies in speech reaches at most this far out of it: recognisers add the quiet between two words to one of them.
EDGE_US: Final = 200_000
# Further than this outside every stretch of speech a word was not spoken but invented.
STRAY_US: Final = 500_000

# Thresholds of the Whisper reference code (openai/whisper, transcribe.py, defaults of `transcribe`).
NO_SPEECH_PROBABILITY: Final = 0.6
LOG_PROBABILITY: Final = -1.0
COMPRESSION_RATIO: Final = 2.4
# Words that a loop repeats beyond what is heard have no sound to be aligned with: they take no time.
MIN_WORD_US: Final = 50_000
LOOP_WORDS: Final = 3  # so many of them in a row were not spoken


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the item inside a chunk.

    Attributes:
        span: what is read: the speech and some quiet on both sides, on the item's time.
        speech: where in it somebody speaks.
        at_us: where it begins in the chunk.
    """

    span: TimeSpan
    speech: TimeSpan
    at_us: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a recogniser is given at once: pieces one behind the other, without a gap."""

    pieces: tuple[Piece, ...]

    @property
    def duration_us(self) -> int:
        last = self.pieces[-1]
        return last.at_us + last.span.duration_us


@dataclass(frozen=True, slots=True)
class Utterance:
    """What a recogniser made of a part of a chunk; times of its words are the chunk's.

    Attributes:
        no_speech_probability, mean_log_probability, compression_ratio: its own doubts; see `is_hallucination`.
    """

    words: tuple[Word, ...]
    no_speech_probability: float
    mean_log_probability: float
    compression_ratio: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is spoken in one item.

    Attributes:
        model: the recogniser's name.
        language: ISO 639-1 code; None where nothing is spoken.
        words: in order of time, on the item's time.
        dropped: utterances that were left out as hallucinations.
    """

    model: str
    language: str | None
    words: tuple[Word, ...]
    dropped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The transcript as JSON values; `transcript_from_dict` reads it back."""
        words = [[word.start_us, word.end_us, word.text, word.probability] for word in self.words]
        return {"model": self.model, "language": self.language, "words": words, "dropped": self.dropped}


def transcript_from_dict(values: Any) -> Transcript:
    """Reads what `Transcript.to_dict` wrote."""
    words = tuple(Word(start_us, end_us, text, probability) for start_us, end_us, text, probability in values["words"])
    return Transcript(values["model"], values["language"], words, values["dropped"])


def speech_of(activity: SoundActivity) -> tuple[TimeSpan, ...]:
    """The stretches of speech of an item; none where a detector of sound alone has looked, for it cannot tell."""
    return activity.spans if activity.detector == "silero" else ()


def pack_speech(speech: Sequence[TimeSpan], duration_us: int, chunk_us: int = CHUNK_US) -> tuple[Chunk, ...]:
    """Packs whole stretches of speech into chunks of at most `chunk_us`, in order.

    A stretch that is longer by itself is a chunk of its own: it has no pause to cut at.
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


def is_hallucination(utterance: Utterance) -> bool:
    """Whether a recogniser invented what it says: it doubts that anything was spoken and is unsure of its words, or it
    is caught in a loop."""
    unsure = utterance.mean_log_probability < LOG_PROBABILITY
    silent = utterance.no_speech_probability > NO_SPEECH_PROBABILITY
    return (silent and unsure) or is_loop(utterance)


def is_loop(utterance: Utterance) -> bool:
    """Whether a recogniser repeats itself: its text compresses well, and most of its words take no time. Somebody who says
    the same sentence three times, or sings a chorus, takes time for each word."""
    if utterance.compression_ratio <= COMPRESSION_RATIO:
        return False
    return 2 * sum(_takes_time(word) for word in utterance.words) < len(utterance.words)


def spoken_words(utterance: Utterance) -> tuple[Word, ...]:
    """The words of an utterance that is kept; of one that repeats itself without the turns of the loop, which take no time.
    (A single word without time is the recogniser's alignment: it was spoken.)"""
    if utterance.compression_ratio <= COMPRESSION_RATIO:
        return utterance.words
    kept: list[Word] = []
    for takes_time, run in itertools.groupby(utterance.words, _takes_time):
        words = list(run)
        if takes_time or len(words) < LOOP_WORDS:
            kept += words
    return tuple(kept)


def halves_of(chunk: Chunk) -> tuple[Chunk, Chunk]:
    """A chunk of several pieces as two chunks, to be read again."""
    middle = len(chunk.pieces) // 2
    first, rest = chunk.pieces[:middle], chunk.pieces[middle:]
    shift = rest[0].at_us
    return Chunk(first), Chunk(tuple(Piece(piece.span, piece.speech, piece.at_us - shift) for piece in rest))


def to_item_words(chunk: Chunk, words: Iterable[Word]) -> list[Word]:
    """Words of a chunk on the item's time. A word lies in the piece whose speech it shares most time with, else in the one
    that holds its end (the quiet before a word is often counted as its own), and is cut to that piece."""
    return [_placed(chunk, word) for word in words]


def near_speech(words: Iterable[Word], speech: Sequence[TimeSpan]) -> list[Word]:
    """The words that lie in speech or at most `STRAY_US` beside it."""
    return [word for word in words if any(_touches(word, span) for span in speech)]


def words_of_span(words: Sequence[Word], span: TimeSpan, is_last: bool = False) -> tuple[Word, ...]:
    """The words whose middle lies in [start, end); the item's last segment takes those behind its end, too."""
    return tuple(
        word
        for word in words
        if span.start_us <= (word.start_us + word.end_us) // 2 and (is_last or _middle_before(word, span.end_us))
    )


def text_of(words: Iterable[Word]) -> str:
    """The words as running text; each carries its own leading space where its language has spaces."""
    return "".join(word.text for word in words).strip()


def _padded(speech: Sequence[TimeSpan], duration_us: int) -> list[tuple[TimeSpan, TimeSpan]]:
    """(widened, itself) for each stretch: widened by `PAD_US`, at most to the middle of the quiet between two of them."""
    ordered = sorted(speech, key=lambda span: span.start_us)
    padded = []
    for number, span in enumerate(ordered):
        before = (ordered[number - 1].end_us + span.start_us + 1) // 2 if number else 0
        after = (span.end_us + ordered[number + 1].start_us) // 2 if number + 1 < len(ordered) else duration_us
        start, end = max(before, span.start_us - PAD_US, 0), min(after, span.end_us + PAD_US, duration_us)
        if start < end:
            padded.append((TimeSpan(start, end), span))
    return padded


def _placed(chunk: Chunk, word: Word) -> Word:
    piece, room = _home(chunk, word)
    shift = piece.span.start_us - piece.at_us
    start = min(max(word.start_us + shift, room.start_us), room.end_us)
    end = min(max(word.end_us + shift, start), room.end_us)
    return Word(start, end, word.text, word.probability)


def _home(chunk: Chunk, word: Word) -> tuple[Piece, TimeSpan]:
    """The piece that a word of a chunk lies in, and what it is cut to, on the item's time."""
    piece = max(chunk.pieces, key=lambda piece: _shared_us(word, piece))
    if _shared_us(word, piece) > 0:
        start = max(piece.span.start_us, piece.speech.start_us - EDGE_US)
        return piece, TimeSpan(start, min(piece.span.end_us, piece.speech.end_us + EDGE_US))
    piece = next((p for p in chunk.pieces if word.end_us <= p.at_us + p.span.duration_us), chunk.pieces[-1])
    return piece, piece.span


def _shared_us(word: Word, piece: Piece) -> int:
    """Microseconds that a word of a chunk shares with the speech of a piece; not above 0 where they are apart."""
    shift = piece.at_us - piece.span.start_us
    return min(word.end_us, piece.speech.end_us + shift) - max(word.start_us, piece.speech.start_us + shift)


def _takes_time(word: Word) -> bool:
    return word.end_us - word.start_us >= MIN_WORD_US


def _touches(word: Word, span: TimeSpan) -> bool:
    return word.end_us >= span.start_us - STRAY_US and word.start_us <= span.end_us + STRAY_US


def _middle_before(word: Word, end_us: int) -> bool:
    return (word.start_us + word.end_us) // 2 < end_us
