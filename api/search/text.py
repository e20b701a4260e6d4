"""Text search: semantic and lexical rankings, fused by reciprocal rank."""

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
    """A matching text of a row.

    Attributes:
        score: from 0 to 1: the higher of its cosine (as a score) and the share of the query's words that it contains.
    """

    field: str
    instance: str
    preview: str
    score: float


@dataclass(frozen=True)
class TextRanking:
    """The result of a text query.

    Attributes:
        searched: the blocks that were searched.
        fused: reciprocal-rank score of each row, best first.
        semantic: one ranking per model.
        lexical: the ranking by words.
        keys: sort keys that break ties.
        texts_by_word: per block, the texts that contain each word of the query; filled as hits are built.
    """

    searched: tuple[Searched, ...]
    words: tuple[str, ...]
    vectors: Mapping[str, Vectors]
    scores: Mapping[tuple[str, int], SegmentScores]
    semantic: tuple[Ranking, ...]
    lexical: Ranking
    fused: Mapping[BlockPosition, float]
    keys: Mapping[BlockPosition, Any]
    texts_by_word: dict[int, list[Any]] = field(default_factory=dict)

    def similarity(self, position: BlockPosition) -> float | None:
        """Return the highest cosine of a row's texts as a score from 0 to 1; None if none has a vector."""
        found = [
            cosine
            for model in self.vectors
            if (scores := self.scores.get((model, position[0]))) is not None
            and (cosine := scores.of(position[1])) is not None
        ]
        return unit_score(max(found)) if found else None

    def matches(self, position: BlockPosition) -> list[FieldMatch]:
        """Return the matching texts of a row, best first."""
        searched = self.searched[position[0]]
        block = searched.block
        texts = block.texts_of(position[1])
        scores = self._text_scores(position[0], texts)
        rows = block.texts.slice(texts.start, len(texts)).select(["instance", "preview"]).to_pylist()
        found = [
            FieldMatch(block.fields[block.text_fields[number]], row["instance"], row["preview"], scores[number])
            for number, row in zip(texts, rows, strict=True)
            if number in scores and (searched.selected is None or searched.selected[number])
        ]
        found.sort(key=lambda match: -match.score)
        return found[:_MAX_INSTANCES]

    def _text_scores(self, number: int, texts: range) -> dict[int, float]:
        """Return the score of each text that has a vector or contains a word of the query."""
        block = self.searched[number].block
        ends = np.array([texts.start, texts.stop], np.int32)
        scores: dict[int, float] = {}
        for matching in self._texts_by_word(number):
            first, last = np.searchsorted(matching, ends)
            for text in matching[first:last].tolist():
                scores[text] = scores.get(text, 0.0) + 1 / len(self.words)
        for model, vector in self.vectors.items():
            group = block.group("text", model)
            if group is not None:
                first, last = np.searchsorted(group.members, ends)
                cosines = group.vectors[group.vector_indices[first:last]] @ vector
                for text, cosine in zip(group.members[first:last].tolist(), cosines.tolist(), strict=True):
                    scores[text] = max(scores.get(text, 0.0), unit_score(cosine))
        return {text: min(1.0, score) for text, score in scores.items()}

    def _texts_by_word(self, number: int) -> list[Any]:
        """Return the texts of a block that contain each word of the query, cached."""
        if number not in self.texts_by_word:
            block = self.searched[number].block
            self.texts_by_word[number] = [block.words.find(word)[0] for word in self.words]
        return self.texts_by_word[number]


def searched_blocks(
    indexes: Sequence[RunIndex], hidden: frozenset[str] = frozenset(), fields: frozenset[str] | None = None
) -> tuple[Searched, ...]:
    """Return the blocks of these runs (newest first) as a query sees them.

    Args:
        hidden: items to exclude.
        fields: the fields to search; None for all.
    """
    return tuple(
        Searched(
            index.run_id,
            age,
            block,
            block.rows_without(hidden),
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
    """Rank rows by a text. An unavailable model is skipped with a warning; word search still applies.

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
            found.append(None if scored is None else (scored.rows, scored.scores))
        semantic.append(rank(searched, found, depth, of_every_block=of_every_block))
    by_words = bm25([_word_part(part) for part in searched], words)
    lexical = rank(searched, by_words, depth, of_every_block=of_every_block)
    rankings = (*semantic, lexical)
    keys = {
        position: key for ranking in rankings for position, key in zip(ranking.positions, ranking.keys, strict=True)
    }
    fused = fuse([ranking.positions for ranking in rankings], tie=keys.__getitem__)
    return TextRanking(tuple(searched), words, vectors, scores, tuple(semantic), lexical, fused, keys)


def _word_part(searched: Searched) -> WordPart:
    block, words = searched.block, searched.block.all_words
    if searched.selected is None and searched.visible is block.all_rows:
        return words
    selected = searched.selected if searched.selected is not None else words.selected
    return WordPart(block.words, block.text_rows, len(block), selected & searched.visible[block.text_rows])


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
                warnings.add(f"semantic search skipped {group.model}: {error.message}")
                continue
            if vector is not None and len(vector) == group.vectors.shape[1]:
                vectors[group.model] = vector
    return vectors
