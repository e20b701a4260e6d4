"""Words of texts: how they are told apart, in which texts each stands, and the BM25 ranking over them.

Statistics are gathered when a query is asked, over all that is searched, so that scores of several runs compare.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promptreel.api.search.files import column, read_table, write_table

# The usual constants: how fast further occurrences count less, and how much long texts are held against them.
K1: Final = 1.2
B: Final = 0.75
MAX_QUERY_WORDS: Final = 64
# Share of a query, by the rarity of its words, that a place must hold to count as found by words. It keeps those out that
# share only "the" and "a" with a question whose own words stand nowhere.
MIN_SHARE: Final = 0.3

_MARKS: Final = r"[\x{0300}-\x{036F}]"  # accents, once they are apart from their letters
_IDEOGRAPHS: Final = r"([\p{Han}\p{Hiragana}\p{Katakana}])"  # written without spaces: each is a word
_BETWEEN: Final = r"[^\p{L}\p{M}\p{N}]+"
_CHUNK: Final = 50_000  # texts that are split at once
_KEPT_WORDS: Final = 32
_MAX_COUNT: Final = np.iinfo(np.uint16).max


def split_words(texts: pa.Array) -> pa.Array:
    """list<string> for each text: its words, lower case, without accents; the list may hold empty ones.

    >>> split_words(pa.array(["Café-Bar 4471"])).to_pylist()
    [['cafe', 'bar', '4471']]
    """
    apart = pc.replace_substring_regex(pc.utf8_normalize(texts, form="NFKD"), _MARKS, "")
    spaced = pc.replace_substring_regex(pc.utf8_lower(apart), _IDEOGRAPHS, r" \1 ")
    return pc.split_pattern_regex(spaced, _BETWEEN)


def query_words(query: str) -> tuple[str, ...]:
    """The distinct words of a query, in order."""
    (words,) = split_words(pa.array([query])).to_pylist()
    return tuple(dict.fromkeys(word for word in words if word))[:MAX_QUERY_WORDS]


@dataclass(frozen=True)
class WordIndex:
    """In which texts each word stands.

    Attributes:
        vocabulary: all words, sorted.
        starts: int64[words + 1]; the entries of word w are those from starts[w] to starts[w + 1].
        texts: int32[entries]: numbers of texts, ascending for each word.
        counts: uint16[entries]: how often the word stands in that text.
        lengths: int32[texts]: words of each text.
    """

    vocabulary: pa.Array
    starts: NDArray[np.int64]
    texts: NDArray[np.int32]
    counts: NDArray[np.uint16]
    lengths: NDArray[np.int32]

    def find(self, word: str) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """(numbers of the texts that hold a word, how often each does)."""
        at = bisect.bisect_left(self.vocabulary, word, key=lambda entry: entry.as_py())
        if at == len(self.vocabulary) or self.vocabulary[at].as_py() != word:
            return self.texts[:0], self.counts[:0]
        entries = slice(self.starts[at], self.starts[at + 1])
        return self.texts[entries], self.counts[entries]


def index_words(texts: Sequence[str]) -> WordIndex:
    """Makes the index of numbered texts."""
    words, numbers = [], []
    for first in range(0, len(texts), _CHUNK):
        split = split_words(pa.array(texts[first : first + _CHUNK], pa.string()))
        parts = pc.list_flatten(split)
        kept = pc.not_equal(parts, "")
        words.append(parts.filter(kept))
        numbers.append(pc.list_parent_indices(split).filter(kept).to_numpy() + first)
    encoded = pa.chunked_array(words, pa.string()).dictionary_encode().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # of no chunk at all
        encoded = pa.array([], pa.string()).dictionary_encode()
    of_text = np.concatenate([*numbers, np.zeros(0, np.int64)])
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    entries = rank[encoded.indices.to_numpy()] * max(1, len(texts)) + of_text
    distinct, counts = np.unique(entries, return_counts=True)
    word, text = np.divmod(distinct, max(1, len(texts)))
    return WordIndex(
        encoded.dictionary.take(order),
        np.searchsorted(word, np.arange(len(order) + 1)).astype(np.int64),
        text.astype(np.int32),
        np.minimum(counts, _MAX_COUNT).astype(np.uint16),
        np.bincount(of_text, minlength=len(texts)).astype(np.int32),
    )


_VOCABULARY: Final = "vocabulary.arrow"
_ENTRIES: Final = "entries.arrow"
_LENGTHS: Final = "lengths.arrow"


def write_words(index: WordIndex, folder: Path) -> None:
    """Writes an index as files of a folder."""
    ends = index.starts[1:]
    write_table(folder / _VOCABULARY, pa.table({"word": index.vocabulary, "end": ends}))
    write_table(folder / _ENTRIES, pa.table({"text": index.texts, "count": index.counts}))
    write_table(folder / _LENGTHS, pa.table({"words": index.lengths}))


def read_words(folder: Path) -> WordIndex:
    """Reads what `write_words` wrote.

    Raises:
        StorageError: a file is missing or cannot be read.
    """
    vocabulary, entries = read_table(folder / _VOCABULARY), read_table(folder / _ENTRIES)
    return WordIndex(
        vocabulary["word"].combine_chunks(),
        np.concatenate([np.zeros(1, np.int64), column(vocabulary, "end")]),
        column(entries, "text"),
        column(entries, "count"),
        column(read_table(folder / _LENGTHS), "words"),
    )


@dataclass(frozen=True)
class WordPart:
    """A part of what is searched by words.

    Attributes:
        place_of: int32[texts]: the place that each text belongs to, ascending.
        places: how many places there are.
        chosen: bool[texts]: the texts that count.
    """

    index: WordIndex
    place_of: NDArray[np.int32]
    places: int
    chosen: NDArray[np.bool_]

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """Words of each place in the texts that count."""
        lengths = self.index.lengths[self.chosen]
        return np.bincount(self.place_of[self.chosen], lengths, minlength=self.places).astype(np.float64)

    @cached_property
    def occurrences(self) -> Callable[[str], tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Gives (places that hold a word, how often they do). The last words that were asked for are kept: some stand in
        nearly every question, and in nearly every text."""
        return functools.lru_cache(maxsize=_KEPT_WORDS)(self._occurrences)

    def _occurrences(self, word: str) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        texts, counts = self.index.find(word)
        kept = self.chosen[texts]
        places = self.place_of[texts[kept]]
        if not len(places):
            return np.zeros(0, np.intp), np.zeros(0, np.float32)
        firsts = np.flatnonzero(np.diff(places, prepend=-1))
        return places[firsts].astype(np.intp), np.add.reduceat(counts[kept].astype(np.float32), firsts)


def bm25(parts: Sequence[WordPart], words: Iterable[str]) -> list[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """(places found by words, their BM25 scores) for each part. The texts of a place count as one, and the statistics are
    those of all parts together. A place is found when it holds at least MIN_SHARE of the query."""
    lengths = [part.lengths for part in parts]
    total = sum(int(np.count_nonzero(length)) for length in lengths)
    average = sum(float(length.sum()) for length in lengths) / max(1, total)
    scores = [np.zeros(part.places, np.float32) for part in parts]
    held = [np.zeros(part.places, np.float32) for part in parts]
    asked = 0.0
    for word in words:
        found = [part.occurrences(word) for part in parts]
        holding = sum(len(places) for places, _ in found)
        rarity = math.log1p((total - holding + 0.5) / (holding + 0.5))
        asked += rarity
        for score, share, length, (places, times) in zip(scores, held, lengths, found, strict=True):
            if len(places):
                damped = times + K1 * (1 - B + B * length[places] / average)
                score[places] += (rarity * times * (K1 + 1) / damped).astype(np.float32)
                share[places] += rarity
    enough = [np.flatnonzero((share > 0) & (share >= MIN_SHARE * asked - 1e-6)) for share in held]
    return [(places, score[places]) for score, places in zip(scores, enough, strict=True)]
