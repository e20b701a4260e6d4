"""Word search: tokenization, an inverted index of texts, and BM25 ranking.

Statistics are computed per query over everything that is searched, so that scores of several runs are comparable.
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

# The usual BM25 constants: saturation of the term frequency, and normalization by length.
K1: Final = 1.2
B: Final = 0.75
MAX_QUERY_WORDS: Final = 64
# Share of a query, weighted by the rarity of its words, that a row must contain to match. It excludes rows that have only
# "the" and "a" in common with a query whose other words occur nowhere.
MIN_SHARE: Final = 0.3

_MARKS: Final = r"[\x{0300}-\x{036F}]"  # combining accents, after decomposition
_IDEOGRAPHS: Final = r"([\p{Han}\p{Hiragana}\p{Katakana}])"  # written without spaces: each character is a word
_SEPARATORS: Final = r"[^\p{L}\p{M}\p{N}]+"
_TEXTS_PER_CHUNK: Final = 50_000
_MAX_CACHED_WORDS: Final = 32
_MAX_COUNT: Final = np.iinfo(np.uint16).max


def split_words(texts: pa.Array) -> pa.Array:
    """Return list<string> per text: its words in lower case without accents; empty strings may occur.

    >>> split_words(pa.array(["Café-Bar 4471"])).to_pylist()
    [['cafe', 'bar', '4471']]
    """
    decomposed = pc.replace_substring_regex(pc.utf8_normalize(texts, form="NFKD"), _MARKS, "")
    spaced = pc.replace_substring_regex(pc.utf8_lower(decomposed), _IDEOGRAPHS, r" \1 ")
    return pc.split_pattern_regex(spaced, _SEPARATORS)


def query_words(query: str) -> tuple[str, ...]:
    """Return the distinct words of a query in order, up to MAX_QUERY_WORDS."""
    (words,) = split_words(pa.array([query])).to_pylist()
    return tuple(dict.fromkeys(word for word in words if word))[:MAX_QUERY_WORDS]


@dataclass(frozen=True)
class WordIndex:
    """An inverted index: the texts that contain each word.

    Attributes:
        vocabulary: all words, sorted.
        starts: int64[words + 1]: the entries of word w are [starts[w], starts[w + 1]).
        texts: int32[entries]: text numbers, ascending within a word.
        counts: uint16[entries]: occurrences of the word in the text, saturating.
        lengths: int32[texts]: number of words of each text.
    """

    vocabulary: pa.Array
    starts: NDArray[np.int64]
    texts: NDArray[np.int32]
    counts: NDArray[np.uint16]
    lengths: NDArray[np.int32]

    def find(self, word: str) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """Return (numbers of the texts that contain a word, occurrences in each)."""
        at = bisect.bisect_left(self.vocabulary, word, key=lambda entry: entry.as_py())
        if at == len(self.vocabulary) or self.vocabulary[at].as_py() != word:
            return self.texts[:0], self.counts[:0]
        entries = slice(self.starts[at], self.starts[at + 1])
        return self.texts[entries], self.counts[entries]


def index_words(texts: Sequence[str]) -> WordIndex:
    """Build the index of texts; their numbers are their positions."""
    words, numbers = [], []
    for first in range(0, len(texts), _TEXTS_PER_CHUNK):
        split = split_words(pa.array(texts[first : first + _TEXTS_PER_CHUNK], pa.string()))
        parts = pc.list_flatten(split)
        is_word = pc.not_equal(parts, "")
        words.append(parts.filter(is_word))
        numbers.append(pc.list_parent_indices(split).filter(is_word).to_numpy() + first)
    encoded = pa.chunked_array(words, pa.string()).dictionary_encode().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # `combine_chunks` leaves an array without chunks as it is
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
    """Write an index to a folder."""
    ends = index.starts[1:]
    write_table(folder / _VOCABULARY, pa.table({"word": index.vocabulary, "end": ends}))
    write_table(folder / _ENTRIES, pa.table({"text": index.texts, "count": index.counts}))
    write_table(folder / _LENGTHS, pa.table({"words": index.lengths}))


def read_words(folder: Path) -> WordIndex:
    """Read what `write_words` wrote.

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
    """One block's part of a word search.

    Attributes:
        row_of: int32[texts], ascending: the row of each text.
        row_count: number of rows.
        selected: bool[texts]: the texts that are searched.
    """

    index: WordIndex
    row_of: NDArray[np.int32]
    row_count: int
    selected: NDArray[np.bool_]

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """float64[rows]: number of words in the selected texts of each row."""
        lengths = self.index.lengths[self.selected]
        return np.bincount(self.row_of[self.selected], lengths, minlength=self.row_count).astype(np.float64)

    @cached_property
    def occurrences(self) -> Callable[[str], tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Function from a word to (rows that contain it, occurrences in each).

        The last words are cached, because some occur in nearly every query and in nearly every text.
        """
        return functools.lru_cache(maxsize=_MAX_CACHED_WORDS)(self._occurrences)

    def _occurrences(self, word: str) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        texts, counts = self.index.find(word)
        is_selected = self.selected[texts]
        rows = self.row_of[texts[is_selected]]
        if not len(rows):
            return np.zeros(0, np.intp), np.zeros(0, np.float32)
        firsts = np.flatnonzero(np.diff(rows, prepend=-1))
        return rows[firsts].astype(np.intp), np.add.reduceat(counts[is_selected].astype(np.float32), firsts)


def bm25(parts: Sequence[WordPart], words: Iterable[str]) -> list[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Return (matching rows, their BM25 scores) of each part.

    The selected texts of a row count as one document; statistics cover all parts. A row matches if it contains at least
    MIN_SHARE of the query.
    """
    lengths = [part.lengths for part in parts]
    total = sum(int(np.count_nonzero(length)) for length in lengths)
    average = sum(float(length.sum()) for length in lengths) / max(1, total)
    scores = [np.zeros(part.row_count, np.float32) for part in parts]
    found_rarity = [np.zeros(part.row_count, np.float32) for part in parts]
    query_rarity = 0.0
    for word in words:
        found = [part.occurrences(word) for part in parts]
        matching = sum(len(rows) for rows, _ in found)
        rarity = math.log1p((total - matching + 0.5) / (matching + 0.5))
        query_rarity += rarity
        for score, share, length, (rows, times) in zip(scores, found_rarity, lengths, found, strict=True):
            if len(rows):
                damped = times + K1 * (1 - B + B * length[rows] / average)
                score[rows] += (rarity * times * (K1 + 1) / damped).astype(np.float32)
                share[rows] += rarity
    matches = [np.flatnonzero((share > 0) & (share >= MIN_SHARE * query_rarity - 1e-6)) for share in found_rarity]
    return [(rows, score[rows]) for score, rows in zip(scores, matches, strict=True)]
