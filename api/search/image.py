"""Image search: segments ranked by the similarity of their frames to an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from promptreel.api.search.picture import as_upright_png
from promptreel.api.search.questions import QueryVectors, missing_clip
from promptreel.api.search.ranking import (
    BlockPosition,
    Ranking,
    Searched,
    Warnings,
    rank,
    score_segments,
    unit_score,
)
from promptreel.api.search.scope import SearchScope
from promptreel.api.web.errors import ApiError
from promptreel.schemas.errors import ModelError
from promptreel.schemas.settings import RunSettings
from promptreel.tables.vectors import Vectors, similarities


@dataclass(frozen=True)
class FrameMatch:
    """The frame of a segment that is most similar to the image.

    Attributes:
        time_us: its time in the item.
        file: its file, relative to the data folder.
        score: from 0 to 1.
    """

    time_us: int
    file: str
    score: float


@dataclass(frozen=True)
class ImageRanking:
    """The result of an image query."""

    searched: tuple[Searched, ...]
    vectors: Mapping[str, Vectors]
    ranking: Ranking

    def frame(self, position: BlockPosition) -> FrameMatch:
        """Return the best matching frame of a row."""
        block = self.searched[position[0]].block
        found: list[tuple[float, int, str]] = []
        for model, vector in self.vectors.items():
            group = block.group("frame", model)
            if group is not None:
                at = np.flatnonzero(group.rows == position[1])
                cosines = similarities(group.vectors, vector, group.vector_indices[at].astype(np.intp))
                times, files = (
                    [block.frames[name][int(row)].as_py() for row in group.members[at]] for name in ("time_us", "file")
                )
                found += zip(cosines.tolist(), times, files, strict=True)
        cosine, time_us, file = min(found, key=lambda pair: (-round(pair[0], 6), pair[1]))
        return FrameMatch(time_us, file, unit_score(cosine))


def rank_images(
    searched: Sequence[Searched],
    image: bytes,
    scope: SearchScope,
    vectors_of: QueryVectors,
    depth: int,
    warnings: Warnings,
) -> ImageRanking:
    """Rank segments by an image.

    Raises:
        ApiError: 422 if the image is invalid, or if no CLIP model of the runs' vectors is available.
    """
    with as_upright_png(image) as path:
        vectors: dict[str, Vectors] = {}
        missing: dict[str, str] = {}
        for part in searched:
            for group in part.block.groups["frame"]:
                if group.model not in vectors and group.model not in missing:
                    try:
                        vectors[group.model] = vectors_of.of_picture(path, group.model, scope.settings(part.run_id))
                    except ModelError as error:
                        missing[group.model] = error.message
    if not vectors:
        _report_missing(missing, scope, warnings)
    for model, reason in missing.items():
        warnings.add(f"image search skipped {model}: {reason}")
    rankings = []
    for model, vector in vectors.items():
        found: list[tuple[Any, Vectors] | None] = []
        for part in searched:
            scored = score_segments(part, "frame", model, vector)
            found.append(None if scored is None else (scored.rows, scored.scores))
        rankings.append(rank(searched, found, depth))
    return ImageRanking(tuple(searched), vectors, _interleave(rankings, depth))


def _interleave(rankings: Sequence[Ranking], depth: int) -> Ranking:
    """Interleave the rankings of several models, because cosines of different models are not comparable."""
    if len(rankings) == 1:
        return rankings[0]
    turns = sorted(
        (number, model, position, score, key)
        for model, ranking in enumerate(rankings)
        for number, (position, score, key) in enumerate(
            zip(ranking.positions, ranking.scores, ranking.keys, strict=True)
        )
    )
    seen: dict[BlockPosition, tuple[float, Any]] = {}
    for _, _, position, score, key in turns:
        seen.setdefault(position, (score, key))
    best = list(seen.items())[:depth]
    scores, keys = [score for _, (score, _) in best], [key for _, (_, key) in best]
    return Ranking(tuple(position for position, _ in best), tuple(scores), tuple(keys))


def _report_missing(missing: Mapping[str, str], scope: SearchScope, warnings: Warnings) -> None:
    """Report why no images could be ranked: a warning if there are no image embeddings.

    Raises:
        ApiError: 422 if a model is missing.
    """
    reasons = list(missing.values())
    if not reasons:
        settings = scope.settings(scope.runs[0].run_id) if scope.runs else RunSettings()
        reasons = [reason] if (reason := missing_clip(settings)) else []
    if reasons:
        message = f"Image search is unavailable: {reasons[0]}"
        raise ApiError(422, "image_search_unavailable", message, {"errors": [{"path": "", "message": message}]})
    warnings.add("none of the searched runs has image embeddings; run with enable_image_embedding")
