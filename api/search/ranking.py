"""Rankings: how scores become an order, and how several orders are joined into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promptreel.api.search.block import Block, Kind, VectorGroup
from promptreel.tables.vectors import Vectors, best_of, resolved, similarities

# Reciprocal rank fusion: an item counts 1 / (RANK_OFFSET + its rank) in each ranking. The usual constant.
RANK_OFFSET: Final = 60
_DEPTH: Final = 200  # a ranking is made at least this long before it is joined with others

Key = TypeVar("Key")
BlockPosition = tuple[int, int]  # (number of a block, number of a place in it)


def depth_for(top_k: int) -> int:
    """How long the rankings are made of which the best `top_k` are wanted."""
    return max(_DEPTH, 4 * top_k)


@dataclass(frozen=True)
class Searched:
    """A block as one query sees it.

    Attributes:
        run_id: the run that it belongs to.
        run_age: 0 for the newest of the runs that are searched, 1 for the next, ...
        shown: bool[places]: the places that may be found.
        chosen: bool[texts]: the texts that count; None for all texts of the places shown.
    """

    run_id: str
    run_age: int
    block: Block
    shown: NDArray[np.bool_]
    chosen: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class SegmentScores:
    """Cosines of one block with a query, for one model.

    Attributes:
        places: int32[n], ascending: the places that have a vector that counts.
        scores: float32[n]: the highest cosine of each.
    """

    places: NDArray[np.int32]
    scores: Vectors

    def of(self, place: int) -> float | None:
        """The cosine of one place."""
        at = int(np.searchsorted(self.places, self.places.dtype.type(place)))
        return float(self.scores[at]) if at < len(self.places) and self.places[at] == place else None


def score_segments(searched: Searched, kind: Kind, model: str, query: Vectors) -> SegmentScores | None:
    """The highest cosine of each place; None where the block has no vectors of that model."""
    group = searched.block.group(kind, model)
    if group is None:
        return None
    chosen = searched.chosen if kind == "text" else None
    whole = chosen is None and searched.shown is searched.block.all_segments
    kept = None if whole else _kept(group, searched.shown, chosen)
    places = group.places if kept is None else group.places[kept]
    if not len(places):
        return SegmentScores(places, np.zeros(0, np.float32))
    firsts = group.firsts if kept is None else np.flatnonzero(np.diff(places, prepend=-1))
    best = np.maximum.reduceat(_row_scores(group, query, kept), firsts)
    order = np.argsort(places[firsts], kind="stable")
    return SegmentScores(places[firsts][order], best[order])


def _kept(group: VectorGroup, shown: NDArray[np.bool_], chosen: NDArray[np.bool_] | None) -> NDArray[np.intp]:
    keep = shown[group.places]
    if chosen is not None:
        keep &= chosen[group.rows]
    return np.flatnonzero(keep)


def _row_scores(group: VectorGroup, query: Vectors, kept: NDArray[np.intp] | None) -> Vectors:
    """The cosine of each row, with the product made once for rows that share a vector."""
    if kept is None:
        return similarities(group.vectors, query)[group.numbers]
    numbers, back = np.unique(group.numbers[kept], return_inverse=True)
    return similarities(group.vectors, query, numbers.astype(np.intp))[back]


@dataclass(frozen=True)
class Ranking:
    """Places in order, best first.

    Attributes:
        keys: what decides between places of equal score, see `segment_keys`.
    """

    places: tuple[BlockPosition, ...] = ()
    scores: tuple[float, ...] = ()
    keys: tuple[Any, ...] = ()


def rank(
    searched: Sequence[Searched],
    found: Sequence[tuple[Any, Vectors] | None],
    depth: int,
    *,
    of_every_block: bool = False,
) -> Ranking:
    """The best places of several blocks as one ranking; equal scores go by item, time and segment, then newer run first.

    Args:
        found: (places, their scores) for each block, or None.
        depth: length of the ranking.
        of_every_block: take that many of every block, instead of all together.
    """
    parts = []
    for block, scored in enumerate(found):
        if scored is not None and len(scored[1]):
            best = best_of(scored[1], depth)
            parts.append((np.full(len(best), block), scored[0][best], scored[1][best]))
    if not parts:
        return Ranking()
    number, place, score = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    level = resolved(score)
    if not of_every_block and depth < len(level):
        kept = np.flatnonzero(level >= np.partition(level, len(level) - depth)[len(level) - depth])
        number, place, score, level = number[kept], place[kept], score[kept], level[kept]
    keys = _keys(searched, number, place)
    order = sorted(range(len(keys)), key=lambda at: (-level[at], keys[at]))
    if not of_every_block:
        order = order[:depth]
    return Ranking(
        tuple((int(number[at]), int(place[at])) for at in order),
        tuple(float(score[at]) for at in order),
        tuple(keys[at] for at in order),
    )


def _keys(searched: Sequence[Searched], numbers: NDArray[Any], places: NDArray[Any]) -> list[Any]:
    """The keys of places of several blocks, in their order."""
    keys: list[Any] = [None] * len(numbers)
    for number in np.unique(numbers):
        members = np.flatnonzero(numbers == number)
        for at, key in zip(members, segment_keys(searched[number], places[members]), strict=True):
            keys[at] = key
    return keys


def segment_keys(searched: Searched, places: NDArray[Any]) -> list[tuple[Any, ...]]:
    """What decides between places of equal score: item, time (a synthesis after its segments), segment, run."""
    rows = searched.block.places.select(["video_id", "start_us", "segment_id"]).take(pa.array(places, pa.int64()))
    return [
        (video_id, segment_id is None, start_us or 0, segment_id or "", searched.run_age)
        for video_id, start_us, segment_id in zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True)
    ]


def fuse(
    rankings: Sequence[Sequence[Key]], weights: Sequence[float] | None = None, tie: Callable[[Key], Any] | None = None
) -> dict[Key, float]:
    """Joins rankings by reciprocal rank: key to its score, best first.

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
    """A cosine as a score from 0 to 1."""
    return min(1.0, max(0.0, (1.0 + cosine) / 2))


@dataclass(frozen=True)
class Warnings:
    """What a search goes without, for the answer's header."""

    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Adds one, once."""
        if text not in self.texts:
            self.texts.append(text)

    def headers(self) -> Mapping[str, str]:
        """The header that tells of them; none where there is nothing to tell."""
        if not self.texts:
            return {}
        plain = "; ".join(self.texts).encode("ascii", "replace").decode()
        return {"X-Search-Warning": " ".join(plain.split())[:2000]}
