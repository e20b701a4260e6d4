"""Language tracking: changes are placed at pauses, and misjudged chunks do not change the language."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreel.providers.language_tracking import (
    CANDIDATE_CHANGE_COST,
    CHANGE_COST,
    LanguageDetector,
    change_index,
    most_likely_languages,
    samples_before,
    track_languages,
)
from promptreel.providers.transcription import Chunk, pack_speech
from promptreel.schemas.media import TimeSpan

SECOND = 1_000_000
CODES = ("de", "en", "fr")


class FakeItem:
    """Speech of 4 s every 5 s. A sample's value is the index of its stretch of speech."""

    def __init__(self, languages: Sequence[str], certainty: float = 0.9) -> None:
        self.languages = languages
        self.certainty = certainty
        self.speech = [TimeSpan(5 * n * SECOND + SECOND, 5 * n * SECOND + 5 * SECOND) for n in range(len(languages))]
        self.chunks = pack_speech(self.speech, 5 * len(languages) * SECOND + SECOND)
        self.judged = 0

    def read(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, np.ndarray]]:
        for chunk in chunks:
            samples = np.zeros(samples_before(chunk, len(chunk.pieces)), np.float32)
            for index, piece in enumerate(chunk.pieces):
                samples[samples_before(chunk, index) : samples_before(chunk, index + 1)] = self.speech.index(
                    piece.speech
                )
            yield chunk, samples

    def detect(self, samples: np.ndarray) -> dict[str, float]:
        """Return the share of each language in the samples, scaled by the certainty."""
        self.judged += 1
        spoken = [self.languages[int(number)] for number in samples[::100]]
        rest = (1 - self.certainty) / len(CODES)
        return {code: rest + self.certainty * spoken.count(code) / len(spoken) for code in CODES}

    def track(self, *candidates: str) -> list[str]:
        detector = LanguageDetector(self.read, self.detect, candidates)
        tracked = track_languages(self.chunks, detector)
        pieces = [piece.speech for chunk, _ in tracked for piece in chunk.pieces]
        assert pieces == self.speech  # none is lost, repeated or moved
        return [language.code for chunk, language in tracked for _ in chunk.pieces]


@pytest.mark.parametrize("first", [3, 4, 5, 6, 9, 12])
@pytest.mark.parametrize("second", [3, 5, 8, 15])
def test_change_is_placed_at_its_pause(first: int, second: int) -> None:
    languages = ["en"] * first + ["de"] * second
    assert FakeItem(languages).track() == languages


def test_language_between_two_others_is_detected() -> None:
    languages = ["en"] * 8 + ["fr"] * 9 + ["de"] * 12 + ["en"] * 10
    assert FakeItem(languages).track() == languages


def test_misjudged_chunk_does_not_change_the_language() -> None:
    clear, unclear = {"en": 0.9, "de": 0.05}, {"en": 0.2, "de": 0.3}
    assert most_likely_languages([clear, unclear, clear]) == ["en"] * 3
    assert most_likely_languages([clear, unclear]) == ["en"] * 2
    other = {"en": 0.05, "de": 0.9}
    assert most_likely_languages([clear, other, clear]) == ["en", "de", "en"]


def test_only_candidates_are_chosen() -> None:
    item = FakeItem(["fr"] * 6 + ["de"] * 6, certainty=0.6)
    assert set(item.track("de", "en")) <= {"de", "en"}
    assert FakeItem(["fr"] * 6).track("de", "fr") == ["fr"] * 6


def test_single_candidate_needs_no_detection() -> None:
    item = FakeItem(["fr"] * 12)
    assert item.track("de") == ["de"] * 12
    assert item.judged == 0


def test_monolingual_item_is_judged_once_per_chunk_and_edge() -> None:
    item = FakeItem(["en"] * 30)
    item.track()
    assert item.judged == len(item.chunks) + 2


probabilities = st.fixed_dictionaries({code: st.floats(0.001, 1) for code in CODES})


@given(st.lists(probabilities, min_size=1, max_size=6), st.booleans())
def test_most_likely_sequence_equals_an_exhaustive_search(units: list[dict[str, float]], are_candidates: bool) -> None:
    cost = CANDIDATE_CHANGE_COST if are_candidates else CHANGE_COST

    def score(path: Sequence[str]) -> float:
        changes = sum(one != two for one, two in itertools.pairwise(path))
        return sum(math.log(unit[code]) for unit, code in zip(units, path, strict=True)) - cost * changes

    best = max(map(score, itertools.product(CODES, repeat=len(units))))
    assert score(most_likely_languages(units, are_candidates)) == pytest.approx(best)


@given(st.lists(probabilities, min_size=1, max_size=8))
def test_change_maximizes_the_likelihood_of_the_pieces(pieces: list[dict[str, float]]) -> None:
    def score(index: int) -> float:
        return sum(math.log(piece["en" if position < index else "de"]) for position, piece in enumerate(pieces))

    assert score(change_index(pieces, "en", "de")) == pytest.approx(max(map(score, range(len(pieces) + 1))))


@pytest.mark.parametrize("named", [(), ("de", "fr")])
def test_any_detector_leaves_every_stretch_with_one_language(named: tuple[str, ...]) -> None:
    for seed in range(300):
        random = Random(seed)
        item = FakeItem(["en"] * random.randint(1, 25))

        def detect(samples: np.ndarray, random: Random = random) -> dict[str, float]:
            return {code: random.choice((0.001, 0.5, 0.99)) for code in CODES}

        item.detect = detect  # type: ignore[method-assign]
        assert set(item.track(*named)) <= set(CODES)
