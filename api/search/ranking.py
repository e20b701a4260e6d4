"""Rankings: order rows by score, and fuse several rankings into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promptreel.api.search.block import Block, Kind, VectorGroup
from promptreel.tables.vectors import Vectors, best_of, resolved, similarities

# Reciprocal rank fusion: a row scores 1 / (RANK_OFFSET + rank) in each ranking. The usual constant.
RANK_OFFSET: Final = 60
_MIN_DEPTH: Final = 200  # minimum length of a ranking before fusion

Key = TypeVar("Key")
BlockPosition = tuple[int, int]  # (number of a block, row in it)


def depth_for(top_k: int) -> int:
    """Return the length of the rankings from which the best `top_k` are selected."""
    return max(_MIN_DEPTH, 4 * top_k)


@dataclass(frozen=True)
class Searched:
    """A block as one query sees it.

    Attributes:
        run_id: the run that the block belongs to.
        run_age: 0 for the newest searched run, 1 for the next, ...
        visible: bool[rows]: the rows that may be returned.
        selected: bool[texts]: the texts to search; None for all texts of the visible rows.
    """

    run_id: str
    run_age: int
    block: Block
    visible: NDArray[np.bool_]
    selected: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class SegmentScores:
    """Cosine similarities of one block to a query, for one model.

    Attributes:
        rows: int32[n], ascending: the rows that have a selected vector.
        scores: float32[n]: the highest cosine of each row.
    """

    rows: NDArray[np.int32]
    scores: Vectors

    def of(self, row: int) -> float | None:
        """Return the cosine of one row, or None if it has no selected vector."""
        at = int(np.searchsorted(self.rows, self.rows.dtype.type(row)))
        return float(self.scores[at]) if at < len(self.rows) and self.rows[at] == row else None


def score_segments(searched: Searched, kind: Kind, model: str, query: Vectors) -> SegmentScores | None:
    """Return the highest cosine of each row, or None if the block has no vectors of the model."""
    group = searched.block.group(kind, model)
    if group is None:
        return None
    selected = searched.selected if kind == "text" else None
    is_complete = selected is None and searched.visible is searched.block.all_rows
    members = None if is_complete else _selected_members(group, searched.visible, selected)
    rows = group.rows if members is None else group.rows[members]
    if not len(rows):
        return SegmentScores(rows, np.zeros(0, np.float32))
    starts = group.row_starts if members is None else np.flatnonzero(np.diff(rows, prepend=-1))
    best = np.maximum.reduceat(_member_scores(group, query, members), starts)
    order = np.argsort(rows[starts], kind="stable")
    return SegmentScores(rows[starts][order], best[order])


def _selected_members(
    group: VectorGroup, visible: NDArray[np.bool_], selected: NDArray[np.bool_] | None
) -> NDArray[np.intp]:
    is_selected = visible[group.rows]
    if selected is not None:
        is_selected &= selected[group.members]
    return np.flatnonzero(is_selected)


def _member_scores(group: VectorGroup, query: Vectors, members: NDArray[np.intp] | None) -> Vectors:
    """Return the cosine of each member; members that share a vector are computed once."""
    if members is None:
        return similarities(group.vectors, query)[group.vector_indices]
    numbers, back = np.unique(group.vector_indices[members], return_inverse=True)
    return similarities(group.vectors, query, numbers.astype(np.intp))[back]


@dataclass(frozen=True)
class Ranking:
    """Rows ordered by score, best first.

    Attributes:
        keys: sort keys that break ties, see `segment_keys`.
    """

    positions: tuple[BlockPosition, ...] = ()
    scores: tuple[float, ...] = ()
    keys: tuple[Any, ...] = ()


def rank(
    searched: Sequence[Searched],
    found: Sequence[tuple[Any, Vectors] | None],
    depth: int,
    *,
    of_every_block: bool = False,
) -> Ranking:
    """Rank the best rows of several blocks. Ties are broken by item, time and segment, then the newer run comes first.

    Args:
        found: (rows, their scores) of each block, or None.
        depth: maximum length of the ranking.
        of_every_block: apply `depth` to each block instead of to the ranking.
    """
    parts = []
    for block, scored in enumerate(found):
        if scored is not None and len(scored[1]):
            best = best_of(scored[1], depth)
            parts.append((np.full(len(best), block), scored[0][best], scored[1][best]))
    if not parts:
        return Ranking()
    number, row, score = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    level = resolved(score)
    if not of_every_block and depth < len(level):
        candidates = np.flatnonzero(level >= np.partition(level, len(level) - depth)[len(level) - depth])
        number, row, score, level = number[candidates], row[candidates], score[candidates], level[candidates]
    keys = _keys(searched, number, row)
    order = sorted(range(len(keys)), key=lambda at: (-level[at], keys[at]))
    if not of_every_block:
        order = order[:depth]
    return Ranking(
        tuple((int(number[at]), int(row[at])) for at in order),
        tuple(float(score[at]) for at in order),
        tuple(keys[at] for at in order),
    )


def _keys(searched: Sequence[Searched], numbers: NDArray[Any], rows: NDArray[Any]) -> list[Any]:
    """Return the sort keys of rows of several blocks, in the given order."""
    keys: list[Any] = [None] * len(numbers)
    for number in np.unique(numbers):
        members = np.flatnonzero(numbers == number)
        for at, key in zip(members, segment_keys(searched[number], rows[members]), strict=True):
            keys[at] = key
    return keys


def segment_keys(searched: Searched, rows: NDArray[Any]) -> list[tuple[Any, ...]]:
    """Return sort keys that break ties: item, time (a synthesis after its segments), segment, run age."""
    table = searched.block.rows.select(["video_id", "start_us", "segment_id"]).take(pa.array(rows, pa.int64()))
    return [
        (video_id, segment_id is None, start_us or 0, segment_id or "", searched.run_age)
        for video_id, start_us, segment_id in zip(
            *(table[name].to_pylist() for name in table.column_names), strict=True
        )
    ]


def fuse(
    rankings: Sequence[Sequence[Key]], weights: Sequence[float] | None = None, tie: Callable[[Key], Any] | None = None
) -> dict[Key, float]:
    """Fuse rankings by reciprocal rank; return the score of each key, best first.

    >>> fuse([["a", "b"], ["b"]])
    {'b': 0.03252247488101534, 'a': 0.01639344262295082}
    """
    scores: dict[Key, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for number, key in enumerate(ranking, 1):
            scores[key] = scores.get(key, 0.0) + weight / (RANK_OFFSET + number)
    order = sorted(scores, key=lambda key: (-round(scores[key], 12), tie(key) if tie is not None else 0))
    return {key: scores[key] for key in order}


def unit_score(cosine: float) -> float:
    """Map a cosine to a score from 0 to 1."""
    return min(1.0, max(0.0, (1.0 + cosine) / 2))


@dataclass(frozen=True)
class Warnings:
    """What a response does not cover, reported in its header."""

    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Add a text unless it is already present."""
        if text not in self.texts:
            self.texts.append(text)

    def headers(self) -> Mapping[str, str]:
        """Return the X-Search-Warning header, or nothing without warnings."""
        if not self.texts:
            return {}
        plain = "; ".join(self.texts).encode("ascii", "replace").decode()
        return {"X-Search-Warning": " ".join(plain.split())[:2000]}
