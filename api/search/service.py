"""The searches as the routes ask for them: who may see what, the rankings, and the hits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.engine import Database
from promptreel.api.db.models import RunRecord, Video
from promptreel.api.search.hits import Hit, fusion_fields, image_fields, segment_hit, segments_of
from promptreel.api.search.image import ImageRanking, rank_images
from promptreel.api.search.library import RunIndex, SearchLibrary
from promptreel.api.search.picture import decode_base64
from promptreel.api.search.questions import QueryVectors
from promptreel.api.search.ranking import BlockPosition, Searched, Warnings, depth_for, fuse
from promptreel.api.search.scope import (
    SearchScope,
    chosen_fields,
    deleted_videos,
    named_runs,
    runs_in_indexes,
)
from promptreel.api.search.text import TextRanking, rank_texts, searched_blocks
from promptreel.api.uploads.media_rows import owned_videos
from promptreel.api.web.auth import Principal
from promptreel.api.web.damage import report_skipped
from promptreel.schemas.wire.search import ImageSearch, MultimodalSearch, MultiRunSearch, TextSearch
from promptreel.tables.storage import Storage

_OLDER_RUN_COUNTS: Final = 0.5  # `weighted`: each run counts half of the next newer one


@dataclass(frozen=True)
class Answer:
    """Hits, best first, and what the search went without."""

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

    def text(self, caller: Principal, index_ids: Sequence[str | None], body: TextSearch) -> Answer:
        """Places found by meaning and words."""
        warnings = Warnings()
        scope, indexes = self._scope(caller, index_ids, body.run_ids, warnings)
        fields = chosen_fields(scope, body.search_fields)
        depth = depth_for(body.top_k)

        def ranked(hidden: frozenset[str]) -> TextRanking:
            searched = searched_blocks(indexes, hidden, fields)
            return rank_texts(searched, body.query, scope, self._vectors, depth, warnings)

        ranking = self._without_deleted(caller, scope, ranked, lambda found: found.fused)
        best = list(ranking.fused)[: body.top_k]
        return Answer(self._hits(caller, scope, ranking.searched, best, _text_maker(ranking)), warnings)

    def image(self, caller: Principal, index_ids: Sequence[str | None], body: ImageSearch) -> Answer:
        """Segments found by a picture."""
        warnings = Warnings()
        picture = decode_base64(body.image_data)
        scope, indexes = self._scope(caller, index_ids, body.run_ids, warnings)
        ranking = self._rank_images(caller, scope, indexes, picture, depth_for(body.top_k), warnings)
        best = ranking.ranking.places[: body.top_k]

        def hit(place: BlockPosition, run: RunRecord, video: Video) -> Hit:
            frame = ranking.frame(place)
            made = segment_hit(ranking.searched[place[0]], place[1], run, video, frame.score)
            return {**made, **image_fields(frame)}

        return Answer(self._hits(caller, scope, ranking.searched, best, hit), warnings)

    def multimodal(self, caller: Principal, index_ids: Sequence[str | None], body: MultimodalSearch) -> Answer:
        """Places found by a text, a picture, or both."""
        warnings = Warnings()
        picture = decode_base64(body.image_data) if body.image_data is not None else None
        scope, indexes = self._scope(caller, index_ids, body.run_ids, warnings)
        fields = chosen_fields(scope, body.search_fields)
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
        return Answer(self._fused_hits(caller, scope, body, by_text, by_image), warnings)

    def multi_run(self, caller: Principal, body: MultiRunSearch) -> Answer:
        """The best `top_k` places of each run, joined."""
        warnings = Warnings()
        with self._database.read() as session:
            if body.run_ids:
                scope = named_runs(session, caller, body.run_ids)
            else:
                scope = runs_in_indexes(session, caller, [body.index_id], None)
        indexes = self._indexes(scope, warnings, are_named=bool(body.run_ids))
        depth = depth_for(body.top_k)

        def ranked(hidden: frozenset[str]) -> TextRanking:
            searched = searched_blocks(indexes, hidden)
            return rank_texts(searched, body.query, scope, self._vectors, depth, warnings, of_every_block=True)

        ranking = self._without_deleted(caller, scope, ranked, lambda found: found.fused)
        chosen = _of_runs(ranking, body)
        return Answer(self._hits(caller, scope, ranking.searched, list(chosen), _text_maker(ranking, chosen)), warnings)

    # ------------------------------------------------------------------------------------------- parts

    def _scope(
        self, caller: Principal, index_ids: Sequence[str | None], run_ids: Sequence[str] | None, warnings: Warnings
    ) -> tuple[SearchScope, list[RunIndex]]:
        with self._database.read() as session:
            scope = runs_in_indexes(session, caller, index_ids, run_ids or None)
        return scope, self._indexes(scope, warnings, are_named=bool(run_ids))

    def _indexes(self, scope: SearchScope, warnings: Warnings, *, are_named: bool) -> list[RunIndex]:
        """The indexes of the runs. A damaged run is left out with a warning, unless the caller has named the runs.

        Raises:
            RunDamaged: of a named run.
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

        return self._without_deleted(caller, scope, ranked, lambda found: found.ranking.places)

    def _without_deleted(
        self,
        caller: Principal,
        scope: SearchScope,
        rank: Callable[[frozenset[str]], Ranked],
        places: Callable[[Ranked], Iterable[BlockPosition]],
    ) -> Ranked:
        """Ranks, and ranks again without deleted media where some was found: most searches meet none."""
        ranking = rank(frozenset())
        found = {_video_id(ranking.searched, place) for place in places(ranking)}
        with self._database.read() as session:
            lost = found - _shown_videos(session, caller, sorted(found))
            if not lost:
                return ranking
            hidden = deleted_videos(session, scope) | lost
        return rank(hidden)

    def _hits(
        self,
        caller: Principal,
        scope: SearchScope,
        searched: Sequence[Searched],
        places: Sequence[BlockPosition],
        make: Callable[[BlockPosition, RunRecord, Video], Hit],
    ) -> list[Hit]:
        with self._database.read() as session:
            videos = owned_videos(session, caller, sorted({_video_id(searched, place) for place in places}))
        runs = {run.run_id: run for run in scope.runs}
        hits = []
        for place in places:
            video = videos.get(_video_id(searched, place))
            if video is not None:  # else it was deleted just now
                hits.append(make(place, runs[searched[place[0]].run_id], video))
        return hits

    def _fused_hits(
        self,
        caller: Principal,
        scope: SearchScope,
        body: MultimodalSearch,
        by_text: TextRanking | None,
        by_image: ImageRanking | None,
    ) -> list[Hit]:
        ranking: TextRanking | ImageRanking | None = by_text or by_image
        assert ranking is not None, "the body asks for something"
        searched = ranking.searched
        texts = list(by_text.fused) if by_text is not None else []
        images = list(by_image.ranking.places) if by_image is not None else []
        weights = [body.text_weight, body.image_weight]
        keys = dict(by_text.keys) if by_text is not None else {}
        if by_image is not None:
            keys |= zip(by_image.ranking.places, by_image.ranking.keys, strict=True)
        fused = fuse([texts, images], weights, keys.__getitem__)
        text_ranks = {place: number for number, place in enumerate(texts, 1)}
        image_ranks = {place: number for number, place in enumerate(images, 1)}

        def hit(place: BlockPosition, run: RunRecord, video: Video) -> Hit:
            ranks = {"text": text_ranks.get(place), "image": image_ranks.get(place)}
            similarity = by_text.similarity(place) if by_text is not None and ranks["text"] else None
            frame = by_image.frame(place) if by_image is not None and ranks["image"] else None
            image_score = frame.score if frame is not None else None
            best = max((score for score in (similarity, image_score) if score is not None), default=None)
            matches = by_text.matches(place) if by_text is not None and ranks["text"] else []
            preview = _preview_of(by_text, place) if by_text is not None else None
            made = segment_hit(searched[place[0]], place[1], run, video, best, matches=matches, preview=preview)
            return {**made, **image_fields(frame), **fusion_fields(fused[place], ranks, similarity, image_score)}

        return self._hits(caller, scope, searched, list(fused)[: body.top_k], hit)


def _text_maker(
    ranking: TextRanking, weighted: Mapping[BlockPosition, tuple[float, float]] | None = None
) -> Callable[[BlockPosition, RunRecord, Video], Hit]:
    """Makes the hits of a text ranking.

    Args:
        weighted: (rank score, factor of the similarity) of each place where these are not the ranking's own.
    """

    def make(place: BlockPosition, run: RunRecord, video: Video) -> Hit:
        score, factor = weighted[place] if weighted is not None else (ranking.fused[place], 1.0)
        similarity = ranking.similarity(place)
        return segment_hit(
            ranking.searched[place[0]],
            place[1],
            run,
            video,
            similarity * factor if similarity is not None else None,
            rank_score=score,
            matches=ranking.matches(place),
            preview=_preview_of(ranking, place),
        )

    return make


def _of_runs(ranking: TextRanking, body: MultiRunSearch) -> dict[BlockPosition, tuple[float, float]]:
    """The places that a search over several runs answers with, best first: (score, factor of age) of each."""
    taken: dict[str, int] = {}
    chosen: dict[BlockPosition, tuple[float, float]] = {}
    for place, score in ranking.fused.items():
        searched = ranking.searched[place[0]]
        taken[searched.run_id] = taken.get(searched.run_id, 0) + 1
        if taken[searched.run_id] <= body.top_k:
            factor = _OLDER_RUN_COUNTS**searched.run_age if body.aggregation == "weighted" else 1.0
            chosen[place] = (score * factor, factor)
    # Equal scores stay in the ranking's order, which puts the newer run first.
    ordered = dict(sorted(chosen.items(), key=lambda entry: -round(entry[1][0], 12)))
    if body.aggregation == "all":
        return ordered
    best: dict[Any, BlockPosition] = {}
    for place in ordered:
        row = ranking.searched[place[0]].block.places
        best.setdefault((row["video_id"][place[1]].as_py(), row["segment_id"][place[1]].as_py()), place)
    return {place: ordered[place] for place in best.values()}


def _preview_of(ranking: TextRanking, place: BlockPosition) -> int | None:
    """The segment that stands for a synthesis: of its item's segments the one nearest to the query, else the first."""
    searched = ranking.searched[place[0]]
    if searched.block.places["segment_id"][place[1]].as_py() is not None:
        return None
    segments = segments_of(searched, place)
    return max(segments, key=lambda at: (ranking.similarity((place[0], at)) or 0.0, -at), default=None)


def _video_id(searched: Sequence[Searched], place: BlockPosition) -> str:
    return searched[place[0]].block.places["video_id"][place[1]].as_py()  # type: ignore[no-any-return]


def _shown_videos(session: Session, caller: Principal, video_ids: Sequence[str]) -> set[str]:
    """Which of these media items are the caller's and not deleted."""
    shown: set[str] = set()
    for first in range(0, len(video_ids), 500):  # SQLite takes some thousand values in a statement at most
        some = Video.video_id.in_(video_ids[first : first + 500])
        mine = select(Video.video_id).where(some, Video.account_id == caller.account_id, Video.deletion_id.is_(None))
        shown.update(session.scalars(mine))
    return shown
