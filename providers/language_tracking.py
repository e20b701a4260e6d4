"""The language of each stretch of speech, in items that change from one language to another.

The recogniser gives each chunk a probability of every language. A single chunk may be misjudged, so the languages of an
item are the sequence that is most likely as a whole, if a change costs `CHANGE_COST` (the Viterbi algorithm). A change is
then placed between the two pieces that make the languages of the pieces on both sides most likely.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promptreel.providers.sound_samples import sample_at
from promptreel.providers.transcript import Language
from promptreel.providers.transcription import Chunk, Piece, join_pieces
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND

# The first and the last speech of an item are judged separately too: a change inside the only chunk shows there.
EDGE_US: Final = 10 * US_PER_SECOND
# Logarithm of the odds that speech goes on in the same language. Clear speech in another language outweighs it within one
# chunk; a chunk that is hard to judge does not.
CHANGE_COST: Final = 1.0
CANDIDATE_CHANGE_COST: Final = 0.5  # if the user named the languages, each of them is expected
_FLOOR: Final = 1e-3  # of a probability, before its logarithm

Samples = NDArray[np.float32]
Probabilities = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LanguageDetector:
    """What tracking needs of a recogniser.

    Attributes:
        read: yields chunks with their float32[n] samples, in order.
        detect: returns the probability of each language in float32[n] samples.
        candidates: the languages to choose from; all if empty. A single one is taken without detection.
    """

    read: Callable[[Sequence[Chunk]], Iterator[tuple[Chunk, Samples]]]
    detect: Callable[[Samples], Probabilities]
    candidates: tuple[str, ...] = ()

    def judge(self, samples: Samples) -> Probabilities:
        """Return the probability of each language to choose from."""
        probabilities = self.detect(samples)
        if not self.candidates:
            return probabilities
        chosen = {code: probabilities.get(code, 0.0) for code in self.candidates}
        total = sum(chosen.values()) or 1.0
        return {code: probability / total for code, probability in chosen.items()}


def track_languages(chunks: Sequence[Chunk], detector: LanguageDetector) -> list[tuple[Chunk, Language]]:
    """Return the chunks of an item in order, each with its language; a chunk with a change inside is split.

    A language that is spoken for less than a chunk between two stretches of another is not found.
    """
    if len(detector.candidates) == 1:
        return [(chunk, Language(detector.candidates[0])) for chunk in chunks]
    judged, first, last = _judge_chunks(chunks, detector)
    codes = most_likely_languages([first, *judged, last], bool(detector.candidates))
    judged_pieces, starts = _language_starts(chunks, codes, detector)
    tracked = []
    for chunk, probabilities in zip(chunks, judged, strict=True):
        parts: dict[str, list[Piece]] = {}
        for piece in chunk.pieces:
            code = next(code for start_us, code in reversed(starts) if piece.speech.start_us >= start_us)
            parts.setdefault(code, []).append(piece)
        for code, pieces in parts.items():
            certain = [judged_pieces.get(piece.speech, probabilities).get(code, 0.0) for piece in pieces]
            tracked.append((join_pieces(pieces), Language(code, round(sum(certain) / len(certain), 4))))
    return tracked


def most_likely_languages(units: Sequence[Probabilities], are_candidates: bool = False) -> list[str]:
    """Return the most likely sequence of languages, one for each unit.

    Args:
        are_candidates: the user named the languages, so that a change is expected.
    """
    cost = CANDIDATE_CHANGE_COST if are_candidates else CHANGE_COST
    codes = sorted(set().union(*units))
    logs = np.array([[_log(unit, code) for code in codes] for unit in units])
    totals: NDArray[np.float64] = logs[0]
    origins = []
    for row in logs[1:]:
        best = int(totals.argmax())
        is_change = totals[best] - cost > totals
        origins.append(np.where(is_change, best, np.arange(len(codes))))
        totals = np.where(is_change, totals[best] - cost, totals) + row
    path = [int(totals.argmax())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return [codes[at] for at in reversed(path)]


def change_index(pieces: Sequence[Probabilities], before: str, after: str) -> int:
    """Return the number of pieces in the first of two languages that makes the languages of all pieces most likely."""
    totals = [0.0, *accumulate(_log(piece, before) - _log(piece, after) for piece in pieces)]
    return max(range(len(totals)), key=totals.__getitem__)


def samples_before(chunk: Chunk, index: int) -> int:
    """Return the number of samples of a chunk before one of its pieces."""
    return sum(sample_at(piece.span.end_us) - sample_at(piece.span.start_us) for piece in chunk.pieces[:index])


def _judge_chunks(
    chunks: Sequence[Chunk], detector: LanguageDetector
) -> tuple[list[Probabilities], Probabilities, Probabilities]:
    """Return the probabilities of every chunk, of the first speech of the item and of the last."""
    judged: list[Probabilities] = []
    first: Probabilities = {}  # no evidence, unless the edge is a part of its chunk
    last: Probabilities = {}
    for chunk, samples in detector.read(chunks):
        judged.append(detector.judge(samples))
        head, tail = _edges(chunk)
        if len(judged) == 1 and head < len(chunk.pieces):
            first = detector.judge(samples[: samples_before(chunk, head)])
        if len(judged) == len(chunks) and tail > 0:
            last = detector.judge(samples[samples_before(chunk, tail) :])
    return judged, first, last


def _edges(chunk: Chunk) -> tuple[int, int]:
    """Return (number of first pieces, index of the first of the last pieces) that last `EDGE_US`."""
    ends = [piece.at_us + piece.span.duration_us for piece in chunk.pieces]
    head = next((count for count, end_us in enumerate(ends, start=1) if end_us >= EDGE_US), len(ends))
    tail = max((n for n, piece in enumerate(chunk.pieces) if ends[-1] - piece.at_us >= EDGE_US), default=0)
    return head, tail


def _language_starts(
    chunks: Sequence[Chunk], codes: Sequence[str], detector: LanguageDetector
) -> tuple[dict[TimeSpan, Probabilities], list[tuple[int, str]]]:
    """Return the probabilities of the pieces near changes, and (start in item time, language) of each run of one language.

    Args:
        codes: languages of the first speech, of every chunk, and of the last speech.
    """
    # Units n - 1 and n + 1 of the codes are the neighbours of chunk n - 1; at the edges one chunk holds the change.
    changes = [number for number, (before, after) in enumerate(pairwise(codes)) if before != after]
    around = {number: chunks[max(0, number - 1) : number + 1] for number in changes}
    near = dict.fromkeys(chunk for pair in around.values() for chunk in pair)
    judged = _judge_pieces(list(near), detector) if near else {}
    starts = [(0, codes[0])]
    for number in changes:
        spans = [piece.speech for chunk in around[number] for piece in chunk.pieces]
        spans = [span for span in spans if span.start_us >= starts[-1][0]]
        index = change_index([judged[span] for span in spans], codes[number], codes[number + 1])
        starts.append((spans[index].start_us if index < len(spans) else spans[-1].end_us, codes[number + 1]))
    return judged, starts


def _judge_pieces(chunks: Sequence[Chunk], detector: LanguageDetector) -> dict[TimeSpan, Probabilities]:
    judged = {}
    for chunk, samples in detector.read(chunks):
        for index, piece in enumerate(chunk.pieces):
            part = samples[samples_before(chunk, index) : samples_before(chunk, index + 1)]
            judged[piece.speech] = detector.judge(part)
    return judged


def _log(probabilities: Probabilities, code: str) -> float:
    return math.log(max(_FLOOR, probabilities.get(code, 0.0)))
