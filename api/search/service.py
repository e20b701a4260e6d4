"""Search for the routes: access checks, rankings and hits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.engine import Database
from promptreel.api.db.models import RunRecord, Video
from promptreel.api.runs.thumbnails import Thumbnails
from promptreel.api.search.hits import Hit, fusion_fields, image_fields, segment_hit, segments_of
from promptreel.api.search.image import ImageRanking, rank_images
from promptreel.api.search.library import RunIndex, SearchLibrary
from promptreel.api.search.picture import decode_base64
from promptreel.api.search.questions import QueryVectors
from promptreel.api.search.ranking import BlockPosition, Searched, Warnings, depth_for, fuse
from promptreel.api.search.scope import (
    SearchScope,
    deleted_videos,
    named_runs,
    runs_in_indexes,
    selected_fields,
)
from promptreel.api.search.text import TextRanking, rank_texts, searched_blocks
from promptreel.api.uploads.media_rows import owned_videos
from promptreel.api.web.auth import Principal
from promptreel.api.web.damage import report_skipped
from promptreel.schemas.wire.search import ImageSearch, MultimodalSearch, MultiRunSearch, TextSearch
from promptreel.tables.storage import Storage

_AGE_FACTOR: Final = 0.5  # `weighted`: a run weighs half as much as the next newer one


@dataclass(frozen=True)
class Answer:
    """Hits, best first, and warnings."""

    hits: list[Hit]
    warnings: Warnings = field(default_factory=Warnings)


class _Ranked(Protocol):
    @property
    def searched(self) -> tuple[Searched, ...]: ...


Ranked = TypeVar("Ranked", bound=_Ranked)


class SearchService:
    """Search over the committed results of one data folder."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self.library = SearchLibrary(storage, database)
        self._vectors = QueryVectors()

    def text(
        self, caller: Principal, index_ids: Sequence[str | None], body: TextSearch, thumbnails: Thumbnails
    ) -> Answer:
        """Search segments and syntheses by meaning and words."""
        warnings = Warnings()
        scope, indexes = self._scope(caller, index_ids, body.run_ids, warnings)
        fields = selected_fields(scope, body.search_fields)
        depth = depth_for(body.top_k)

        def ranked(hidden: frozenset[str]) -> TextRanking:
            searched = searched_blocks(indexes, hidden, fields)
            return rank_texts(searched, body.query, scope, self._vectors, depth, warnings)

        ranking = self._without_deleted(caller, scope, ranked, lambda found: found.fused)
        best = list(ranking.fused)[: body.top_k]
        return Answer(
            self._hits(caller, scope, ranking.searched, best, _text_hit_builder(ranking, thumbnails)), warnings
        )

    def image(
        self, caller: Principal, index_ids: Sequence[str | None], body: ImageSearch, thumbnails: Thumbnails
    ) -> Answer:
        """Search segments by an image."""
        warnings = Warnings()
        picture = decode_base64(body.image_data)
        scope, indexes = self._scope(caller, index_ids, body.run_ids, warnings)
        ranking = self._rank_images(caller, scope, indexes, picture, depth_for(body.top_k), warnings)
        best = ranking.ranking.positions[: body.top_k]

        def hit(position: BlockPosition, run: RunRecord, video: Video) -> Hit:
            frame = ranking.frame(position)
            hit_body = segment_hit(ranking.searched[position[0]], position[1], run, video, frame.score, thumbnails)
            return {**hit_body, **image_fields(frame, hit_body, thumbnails)}

        return Answer(self._hits(caller, scope, ranking.searched, best, hit), warnings)

    def multimodal(
        self, caller: Principal, index_ids: Sequence[str | None], body: MultimodalSearch, thumbnails: Thumbnails
    ) -> Answer:
        """Search segments and syntheses by a text, an image, or both."""
        warnings = Warnings()
        picture = decode_base64(body.image_data) if body.image_data is not None else None
        scope, indexes = self._scope(caller, index_ids, body.run_ids, warnings)
        fields = selected_fields(scope, body.search_fields)
        depth = depth_for(body.top_k)
        by_text, by_image = None, None
        if body.text_query is not None:
            query = body.text_query

            def ranked(hidden: frozenset[str]) -> TextRanking:
                searched = searched_blocks(indexes, hidden, fields)
                return rank_texts(searched, query, scope, self._vectors, depth, warnings)

            by_text = self._without_deleted(caller, scope, ranked, lambda found: found.fused)
        if picture is not None:
            by_image = self._rank_images(caller, scope, indexes, picture, depth, warnings)
        return Answer(self._fused_hits(caller, scope, body, by_text, by_image, thumbnails), warnings)

    def multi_run(self, caller: Principal, body: MultiRunSearch, thumbnails: Thumbnails) -> Answer:
        """Search several runs and join the best `top_k` hits of each."""
        warnings = Warnings()
        with self._database.read() as session:
            if body.run_ids:
                scope = named_runs(session, caller, body.run_ids)
                if body.index_id is not None:
                    warnings.add("ignored: index_id, because run_ids selects the runs; omit one of them")
            else:
                scope = runs_in_indexes(session, caller, [body.index_id], None)
        indexes = self._indexes(scope, warnings, are_named=bool(body.run_ids))
        depth = depth_for(body.top_k)

        def ranked(hidden: frozenset[str]) -> TextRanking:
            searched = searched_blocks(indexes, hidden)
            return rank_texts(searched, body.query, scope, self._vectors, depth, warnings, of_every_block=True)

        ranking = self._without_deleted(caller, scope, ranked, lambda found: found.fused)
        selected = _join_runs(ranking, body)
        return Answer(
            self._hits(
                caller, scope, ranking.searched, list(selected), _text_hit_builder(ranking, thumbnails, selected)
            ),
            warnings,
        )

    # ------------------------------------------------------------------------------------------- parts

    def _scope(
        self, caller: Principal, index_ids: Sequence[str | None], run_ids: Sequence[str] | None, warnings: Warnings
    ) -> tuple[SearchScope, list[RunIndex]]:
        with self._database.read() as session:
            scope = runs_in_indexes(session, caller, index_ids, run_ids or None)
        return scope, self._indexes(scope, warnings, are_named=bool(run_ids))

    def _indexes(self, scope: SearchScope, warnings: Warnings, *, are_named: bool) -> list[RunIndex]:
        """Return the indexes of the runs. A damaged run is skipped with a warning unless the caller named it.

        Raises:
            RunDamaged: a named run is damaged.
        """
        if are_named:
            return self.library.indexes(scope.committed())
        indexes, damaged = self.library.intact_indexes(scope.committed())
        for error in damaged:
            warnings.add(report_skipped(error))
        return indexes

    def _rank_images(
        self,
        caller: Principal,
        scope: SearchScope,
        indexes: Sequence[RunIndex],
        picture: bytes,
        depth: int,
        warnings: Warnings,
    ) -> ImageRanking:
        def ranked(hidden: frozenset[str]) -> ImageRanking:
            searched = searched_blocks(indexes, hidden)
            return rank_images(searched, picture, scope, self._vectors, depth, warnings)

        return self._without_deleted(caller, scope, ranked, lambda found: found.ranking.positions)

    def _without_deleted(
        self,
        caller: Principal,
        scope: SearchScope,
        rank: Callable[[frozenset[str]], Ranked],
        positions: Callable[[Ranked], Iterable[BlockPosition]],
    ) -> Ranked:
        """Rank, and rank again without deleted media only if some was found: most searches find none."""
        ranking = rank(frozenset())
        found = {_video_id(ranking.searched, position) for position in positions(ranking)}
        with self._database.read() as session:
            deleted = found - _visible_videos(session, caller, sorted(found))
            if not deleted:
                return ranking
            hidden = deleted_videos(session, scope) | deleted
        return rank(hidden)

    def _hits(
        self,
        caller: Principal,
        scope: SearchScope,
        searched: Sequence[Searched],
        positions: Sequence[BlockPosition],
        build: Callable[[BlockPosition, RunRecord, Video], Hit],
    ) -> list[Hit]:
        with self._database.read() as session:
            videos = owned_videos(session, caller, sorted({_video_id(searched, position) for position in positions}))
        runs = {run.run_id: run for run in scope.runs}
        hits = []
        for position in positions:
            video = videos.get(_video_id(searched, position))
            if video is not None:  # otherwise it was deleted after the ranking
                hits.append(build(position, runs[searched[position[0]].run_id], video))
        return hits

    def _fused_hits(
        self,
        caller: Principal,
        scope: SearchScope,
        body: MultimodalSearch,
        by_text: TextRanking | None,
        by_image: ImageRanking | None,
        thumbnails: Thumbnails,
    ) -> list[Hit]:
        ranking: TextRanking | ImageRanking | None = by_text or by_image
        assert ranking is not None, "the request has a text or an image"
        searched = ranking.searched
        texts = list(by_text.fused) if by_text is not None else []
        images = list(by_image.ranking.positions) if by_image is not None else []
        weights = [body.text_weight, body.image_weight]
        keys = dict(by_text.keys) if by_text is not None else {}
        if by_image is not None:
            keys |= zip(by_image.ranking.positions, by_image.ranking.keys, strict=True)
        fused = fuse([texts, images], weights, keys.__getitem__)
        text_ranks = {position: number for number, position in enumerate(texts, 1)}
        image_ranks = {position: number for number, position in enumerate(images, 1)}

        def hit(position: BlockPosition, run: RunRecord, video: Video) -> Hit:
            ranks = {"text": text_ranks.get(position), "image": image_ranks.get(position)}
            similarity = by_text.similarity(position) if by_text is not None and ranks["text"] else None
            frame = by_image.frame(position) if by_image is not None and ranks["image"] else None
            image_score = frame.score if frame is not None else None
            best = max((score for score in (similarity, image_score) if score is not None), default=None)
            matches = by_text.matches(position) if by_text is not None and ranks["text"] else []
            preview = _preview_of(by_text, position) if by_text is not None else None
            hit_body = segment_hit(
                searched[position[0]], position[1], run, video, best, thumbnails, matches=matches, preview=preview
            )
            return {
                **hit_body,
                **image_fields(frame, hit_body, thumbnails),
                **fusion_fields(fused[position], ranks, similarity, image_score),
            }

        return self._hits(caller, scope, searched, list(fused)[: body.top_k], hit)


def _text_hit_builder(
    ranking: TextRanking, thumbnails: Thumbnails, weighted: Mapping[BlockPosition, tuple[float, float]] | None = None
) -> Callable[[BlockPosition, RunRecord, Video], Hit]:
    """Return a function that builds the hits of a text ranking.

    Args:
        weighted: (rank score, factor of the similarity) of each hit, if they differ from the ranking's.
    """

    def build(position: BlockPosition, run: RunRecord, video: Video) -> Hit:
        score, factor = weighted[position] if weighted is not None else (ranking.fused[position], 1.0)
        similarity = ranking.similarity(position)
        return segment_hit(
            ranking.searched[position[0]],
            position[1],
            run,
            video,
            similarity * factor if similarity is not None else None,
            thumbnails,
            rank_score=score,
            matches=ranking.matches(position),
            preview=_preview_of(ranking, position),
        )

    return build


def _join_runs(ranking: TextRanking, body: MultiRunSearch) -> dict[BlockPosition, tuple[float, float]]:
    """Select the hits of a search over several runs, best first; return (score, age factor) of each."""
    hits_per_run: dict[str, int] = {}
    selected: dict[BlockPosition, tuple[float, float]] = {}
    for position, score in ranking.fused.items():
        searched = ranking.searched[position[0]]
        hits_per_run[searched.run_id] = hits_per_run.get(searched.run_id, 0) + 1
        if hits_per_run[searched.run_id] <= body.top_k:
            factor = _AGE_FACTOR**searched.run_age if body.aggregation == "weighted" else 1.0
            selected[position] = (score * factor, factor)
    # The sort is stable: equal scores keep the ranking's order, newer run first.
    ordered = dict(sorted(selected.items(), key=lambda entry: -round(entry[1][0], 12)))
    if body.aggregation == "all":
        return ordered
    best: dict[Any, BlockPosition] = {}
    for position in ordered:
        rows = ranking.searched[position[0]].block.rows
        best.setdefault((rows["video_id"][position[1]].as_py(), rows["segment_id"][position[1]].as_py()), position)
    return {position: ordered[position] for position in best.values()}


def _preview_of(ranking: TextRanking, position: BlockPosition) -> int | None:
    """Return the segment that previews a synthesis: the most similar one of its item, or else the first."""
    searched = ranking.searched[position[0]]
    if searched.block.rows["segment_id"][position[1]].as_py() is not None:
        return None
    segments = segments_of(searched, position)
    return max(segments, key=lambda at: (ranking.similarity((position[0], at)) or 0.0, -at), default=None)


def _video_id(searched: Sequence[Searched], position: BlockPosition) -> str:
    return searched[position[0]].block.rows["video_id"][position[1]].as_py()  # type: ignore[no-any-return]


def _visible_videos(session: Session, caller: Principal, video_ids: Sequence[str]) -> set[str]:
    """Return those of these media items that belong to the caller and are not deleted."""
    visible: set[str] = set()
    for first in range(0, len(video_ids), 500):  # SQLite limits the number of values in a statement
        some = Video.video_id.in_(video_ids[first : first + 500])
        owned = select(Video.video_id).where(some, Video.account_id == caller.account_id, Video.deletion_id.is_(None))
        visible.update(session.scalars(owned))
    return visible
