"""Text search: places ranked by meaning and by words, the two joined by reciprocal rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from promptreel.api.search.library import RunIndex
from promptreel.api.search.questions import QueryVectors
from promptreel.api.search.ranking import (
    BlockPosition,
    Ranking,
    Searched,
    SegmentScores,
    Warnings,
    fuse,
    rank,
    score_segments,
    unit_score,
)
from promptreel.api.search.scope import SearchScope
from promptreel.api.search.words import WordPart, bm25, query_words
from promptreel.schemas.errors import ModelError
from promptreel.tables.vectors import Vectors

_MAX_INSTANCES: Final = 10


@dataclass(frozen=True)
class FieldMatch:
    """One text of a place, with how well it fits: from 0 to 1, the higher of its cosine as a score and the share of the
    query's words that it holds."""

    field: str
    instance: str
    preview: str
    score: float


@dataclass(frozen=True)
class TextRanking:
    """The answer to a text query.

    Attributes:
        searched: the blocks that were looked at.
        fused: score of each place by reciprocal rank, best first.
        semantic: one ranking for each model; lexical: that by words.
        keys: what decides between places of equal score.
        found: for each block, the texts that hold each word; filled as hits are made.
    """

    searched: tuple[Searched, ...]
    words: tuple[str, ...]
    vectors: Mapping[str, Vectors]
    scores: Mapping[tuple[str, int], SegmentScores]
    semantic: tuple[Ranking, ...]
    lexical: Ranking
    fused: Mapping[BlockPosition, float]
    keys: Mapping[BlockPosition, Any]
    found: dict[int, list[Any]] = field(default_factory=dict)

    def similarity(self, place: BlockPosition) -> float | None:
        """The highest cosine of a place's texts, from 0 to 1; None where none of them has a vector."""
        found = [
            cosine
            for model in self.vectors
            if (scores := self.scores.get((model, place[0]))) is not None
            and (cosine := scores.of(place[1])) is not None
        ]
        return unit_score(max(found)) if found else None

    def matches(self, place: BlockPosition) -> list[FieldMatch]:
        """The texts of a place that fit, best first."""
        searched = self.searched[place[0]]
        block = searched.block
        texts = block.texts_of(place[1])
        scores = self._text_scores(place[0], texts)
        rows = block.texts.slice(texts.start, len(texts)).select(["instance", "preview"]).to_pylist()
        found = [
            FieldMatch(block.fields[block.text_fields[number]], row["instance"], row["preview"], scores[number])
            for number, row in zip(texts, rows, strict=True)
            if number in scores and (searched.chosen is None or searched.chosen[number])
        ]
        found.sort(key=lambda match: -match.score)
        return found[:_MAX_INSTANCES]

    def _text_scores(self, number: int, texts: range) -> dict[int, float]:
        """Number of a text to its score; one that neither has a vector nor holds a word of the query is left out."""
        block = self.searched[number].block
        ends = np.array([texts.start, texts.stop], np.int32)
        scores: dict[int, float] = {}
        for holding in self._holding(number):
            first, last = np.searchsorted(holding, ends)
            for text in holding[first:last].tolist():
                scores[text] = scores.get(text, 0.0) + 1 / len(self.words)
        for model, vector in self.vectors.items():
            group = block.group("text", model)
            if group is not None:
                first, last = np.searchsorted(group.rows, ends)
                cosines = group.vectors[group.numbers[first:last]] @ vector
                for text, cosine in zip(group.rows[first:last].tolist(), cosines.tolist(), strict=True):
                    scores[text] = max(scores.get(text, 0.0), unit_score(cosine))
        return {text: min(1.0, score) for text, score in scores.items()}

    def _holding(self, number: int) -> list[Any]:
        """The texts of a block that hold each word of the query, found once."""
        if number not in self.found:
            block = self.searched[number].block
            self.found[number] = [block.words.find(word)[0] for word in self.words]
        return self.found[number]


def searched_blocks(
    indexes: Sequence[RunIndex], hidden: frozenset[str] = frozenset(), fields: frozenset[str] | None = None
) -> tuple[Searched, ...]:
    """The blocks of these runs (newest first) as a query sees them.

    Args:
        hidden: items whose places may not be found.
        fields: the fields that count; None for all.
    """
    return tuple(
        Searched(
            index.run_id,
            age,
            block,
            block.segments_without(hidden),
            block.texts_in(fields) if fields is not None else None,
        )
        for age, index in enumerate(indexes)
        for block in index.blocks
    )


def rank_texts(
    searched: Sequence[Searched],
    query: str,
    scope: SearchScope,
    vectors_of: QueryVectors,
    depth: int,
    warnings: Warnings,
    *,
    of_every_block: bool = False,
) -> TextRanking:
    """Ranks places by a text. A model that is not available is left out with a warning; words answer without it.

    Args:
        depth, of_every_block: see `rank`.
    """
    words = query_words(query)
    vectors = _query_vectors(searched, query, scope, vectors_of, warnings)
    scores: dict[tuple[str, int], SegmentScores] = {}
    semantic = []
    for model, vector in vectors.items():
        found: list[tuple[Any, Vectors] | None] = []
        for number, part in enumerate(searched):
            scored = score_segments(part, "text", model, vector)
            if scored is not None:
                scores[model, number] = scored
            found.append(None if scored is None else (scored.places, scored.scores))
        semantic.append(rank(searched, found, depth, of_every_block=of_every_block))
    by_words = bm25([_word_part(part) for part in searched], words)
    lexical = rank(searched, by_words, depth, of_every_block=of_every_block)
    rankings = (*semantic, lexical)
    keys = {place: key for ranking in rankings for place, key in zip(ranking.places, ranking.keys, strict=True)}
    fused = fuse([ranking.places for ranking in rankings], tie=keys.__getitem__)
    return TextRanking(tuple(searched), words, vectors, scores, tuple(semantic), lexical, fused, keys)


def _word_part(searched: Searched) -> WordPart:
    block, whole = searched.block, searched.block.whole_words
    if searched.chosen is None and searched.shown is block.all_segments:
        return whole
    chosen = searched.chosen if searched.chosen is not None else whole.chosen
    return WordPart(block.words, block.text_places, len(block), chosen & searched.shown[block.text_places])


def _query_vectors(
    searched: Sequence[Searched], query: str, scope: SearchScope, vectors_of: QueryVectors, warnings: Warnings
) -> dict[str, Vectors]:
    vectors: dict[str, Vectors] = {}
    tried: set[str] = set()
    for part in searched:
        for group in part.block.groups["text"]:
            if group.model in tried:
                continue
            tried.add(group.model)
            try:
                vector = vectors_of.of_text(query, group.model, scope.settings(part.run_id))
            except ModelError as error:
                warnings.add(f"not ranked by meaning with {group.model}: {error.message}")
                continue
            if vector is not None and len(vector) == group.vectors.shape[1]:
                vectors[group.model] = vector
    return vectors
