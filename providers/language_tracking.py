"""Detect the language of each stretch of speech in items with several languages.

The recogniser returns the probability of every language for each chunk. Single chunks may be misjudged, so the languages
of an item are the most likely sequence if every change costs `CHANGE_COST` (the Viterbi algorithm). Each change is then
placed at the boundary between two pieces that makes the languages on both sides most likely.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promptreel.providers.sound_samples import sample_at
from promptreel.providers.transcript import Language
from promptreel.providers.transcription import Chunk, join_pieces
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND

# The first and the last speech of an item are also judged separately, which reveals a change inside the only chunk.
EDGE_US: Final = 10 * US_PER_SECOND
# Log odds that speech continues in the same language. One chunk of clear speech in another language outweighs it; a chunk
# that is hard to judge does not.
CHANGE_COST: Final = 1.0
CANDIDATE_CHANGE_COST: Final = 0.5  # if the user listed the languages, each of them is expected
_MIN_PROBABILITY: Final = 1e-3  # before taking the logarithm

Samples = NDArray[np.float32]
Probabilities = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LanguageDetector:
    """The functions of a recogniser that language tracking needs.

    Attributes:
        read: yields chunks with their float32[n] samples, in order.
        detect: returns the probability of each language in float32[n] samples.
        candidates: the languages to choose from; all if empty. A single candidate is used without detection.
    """

    read: Callable[[Sequence[Chunk]], Iterator[tuple[Chunk, Samples]]]
    detect: Callable[[Samples], Probabilities]
    candidates: tuple[str, ...] = ()

    def judge(self, samples: Samples) -> Probabilities:
        """Return the probability of each candidate language."""
        probabilities = self.detect(samples)
        if not self.candidates:
            return probabilities
        chosen = {code: probabilities.get(code, 0.0) for code in self.candidates}
        total = sum(chosen.values()) or 1.0
        return {code: probability / total for code, probability in chosen.items()}


def track_languages(chunks: Sequence[Chunk], detector: LanguageDetector) -> list[tuple[Chunk, Language]]:
    """Return the chunks of an item in order, each with its language; a chunk with a change inside is split.

    A language spoken for less than a chunk between two stretches of another language is not detected.
    """
    if len(detector.candidates) == 1:
        return [(chunk, Language(detector.candidates[0])) for chunk in chunks]
    judged, first, last = _judge_chunks(chunks, detector)
    codes = most_likely_languages([first, *judged, last], bool(detector.candidates))
    judged_pieces, starts = _language_starts(chunks, codes, detector)
    tracked = []
    for chunk, probabilities in zip(chunks, judged, strict=True):
        for code, run in groupby(chunk.pieces, lambda piece: _code_at(starts, piece.speech.start_us)):
            pieces = list(run)
            certain = [judged_pieces.get(piece.speech, probabilities).get(code, 0.0) for piece in pieces]
            tracked.append((join_pieces(pieces), Language(code, round(sum(certain) / len(certain), 4))))
    return tracked


def _code_at(starts: Sequence[tuple[int, str]], time_us: int) -> str:
    """Return the language of the last run that starts at or before a time."""
    return next(code for start_us, code in reversed(starts) if time_us >= start_us)


def most_likely_languages(units: Sequence[Probabilities], are_candidates: bool = False) -> list[str]:
    """Return the most likely sequence of languages, one for each unit.

    Args:
        are_candidates: the user listed the languages, so a change is expected.
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
    return [codes[index] for index in reversed(path)]


def change_index(pieces: Sequence[Probabilities], before: str, after: str) -> int:
    """Return the most likely number of leading pieces in the language `before`; the others are in `after`."""
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
    first: Probabilities = {}  # no evidence if the edge is the entire chunk
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
    """Return (number of leading pieces, index of the first trailing piece) whose sound lasts `EDGE_US`."""
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
    # codes[n + 1] belongs to chunks[n], so a change after codes[n] is in chunks n - 1 and n; at the edges in one chunk.
    changes = [number for number, (before, after) in enumerate(pairwise(codes)) if before != after]
    around = {number: chunks[max(0, number - 1) : number + 1] for number in changes}
    near = dict.fromkeys(chunk for pair in around.values() for chunk in pair)
    judged = _judge_pieces(list(near), detector) if near else {}
    starts = [(0, codes[0])]
    for number in changes:
        spans = [piece.speech for chunk in around[number] for piece in chunk.pieces]
        spans = [span for span in spans if span.start_us >= starts[-1][0]]
        index = change_index([judged[span] for span in spans], codes[number], codes[number + 1])
        start_us = spans[index].start_us if index < len(spans) else around[number][-1].pieces[-1].speech.end_us
        starts.append((start_us, codes[number + 1]))
    return judged, starts


def _judge_pieces(chunks: Sequence[Chunk], detector: LanguageDetector) -> dict[TimeSpan, Probabilities]:
    judged = {}
    for chunk, samples in detector.read(chunks):
        for index, piece in enumerate(chunk.pieces):
            part = samples[samples_before(chunk, index) : samples_before(chunk, index + 1)]
            judged[piece.speech] = detector.judge(part)
    return judged


def _log(probabilities: Probabilities, code: str) -> float:
    return math.log(max(_MIN_PROBABILITY, probabilities.get(code, 0.0)))
