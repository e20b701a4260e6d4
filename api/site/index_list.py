"""The indexes of an account, and one page of the media of an index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import required_time
from promptreel.api.db.models import MediaIndex, RunRecord, Video
from promptreel.api.runs.media_status import add_processing_status
from promptreel.api.runs.thumbnails import Thumbnails, add_item_thumbnails
from promptreel.api.site.links import index_path, item_path
from promptreel.api.site.scopes import PLAYGROUND_NAME
from promptreel.api.uploads.media_rows import video_body, videos_in
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import not_found
from promptreel.pages.moments import shown_moment

MEDIA_PER_PAGE: Final = 24


@dataclass(frozen=True, slots=True)
class ListedIndex:
    """An index, or the playground, as a row of the list. Sizes and times are those of all its media.

    Attributes:
        index: its id, or `playground`.
        created_at: None for the playground.
    """

    index: str
    name: str
    description: str | None
    items: int
    duration_us: int
    size_bytes: int
    runs: int
    created_at: str | None


@dataclass(frozen=True, slots=True)
class MediaQuery:
    """Which media of an index are shown.

    Attributes:
        text: part of the title, ignoring case.
        number: of the page, from 1.
    """

    index: str
    text: str = ""
    number: int = 1

    def url(self, **changes: Any) -> str:
        """Return the URL of the page with other values."""
        query = {"q": self.text, "page": changes.get("number", self.number)}
        kept = {name: value for name, value in query.items() if value not in ("", 1)}
        return index_path(self.index) + (f"?{urlencode(kept)}" if kept else "")


@dataclass(frozen=True, slots=True)
class MediaTile:
    """A media item of an index.

    Attributes:
        url: of its page in the newest run that has results for it; None without such a run.
        status: of its newest run; `not_processed` without one.
    """

    video_id: str
    title: str
    media_type: str
    duration_us: int | None
    status: str
    url: str | None
    thumbnail: str | None


@dataclass(frozen=True, slots=True)
class MediaPage:
    """One page of the media of an index."""

    query: MediaQuery
    tiles: tuple[MediaTile, ...]
    total: int
    pages: int


@dataclass(frozen=True, slots=True)
class _Counts:
    """By id of an index, None for the playground: (items, duration, bytes) of its media, and the number of its runs."""

    sizes: Mapping[str | None, tuple[int, int, int]]
    runs: Mapping[str | None, int]


def index_list(session: Session, caller: Principal) -> tuple[ListedIndex, ...]:
    """Return the caller's indexes, newest first, and the playground."""
    counts = _counts(session, caller)
    mine = select(MediaIndex).where(MediaIndex.account_id == caller.account_id, MediaIndex.deletion_id.is_(None))
    records = session.scalars(mine.order_by(MediaIndex.created_at.desc(), MediaIndex.index_id))
    rows = [
        _row(record.index_id, record.name, record.description, shown_moment(required_time(record.created_at)), counts)
        for record in records
    ]
    return (*rows, _row(PLAYGROUND_NAME, PLAYGROUND_NAME.capitalize(), "Media without an index.", None, counts))


def listed_index(session: Session, caller: Principal, index: str) -> ListedIndex:
    """Return one index, or the playground.

    Raises:
        ApiError: 404 if the index does not exist, belongs to another account, or is deleted.
    """
    found = next((row for row in index_list(session, caller) if row.index == index), None)
    if found is None:
        raise not_found("index", index)
    return found


def media_page(session: Session, caller: Principal, query: MediaQuery, thumbnails: Thumbnails) -> MediaPage:
    """Return one page of the media of an index, newest first."""
    mine = videos_in(caller, None if query.index == PLAYGROUND_NAME else query.index)
    if query.text:
        mine = mine.where(Video.title.icontains(query.text, autoescape=True))
    total = session.scalar(select(func.count()).select_from(mine.subquery())) or 0
    newest = mine.order_by(Video.created_at.desc(), Video.video_id.desc())
    videos = session.scalars(newest.offset((query.number - 1) * MEDIA_PER_PAGE).limit(MEDIA_PER_PAGE)).all()
    bodies = [video_body(video) for video in videos]
    add_processing_status(session, thumbnails.storage, caller.account_id, bodies)
    add_item_thumbnails(thumbnails, bodies)
    tiles = tuple(_tile(video, body) for video, body in zip(videos, bodies, strict=True))
    return MediaPage(query, tiles, total, max(1, -(-total // MEDIA_PER_PAGE)))


def _counts(session: Session, caller: Principal) -> _Counts:
    sums = (func.count(), func.sum(Video.duration_us), func.sum(Video.size_bytes))
    media = select(Video.index_id, *sums).where(Video.account_id == caller.account_id, Video.deletion_id.is_(None))
    runs = select(RunRecord.index_id, func.count()).where(RunRecord.account_id == caller.account_id)
    return _Counts(
        {row[0]: (row[1], int(row[2] or 0), int(row[3])) for row in session.execute(media.group_by(Video.index_id))},
        {row[0]: row[1] for row in session.execute(runs.group_by(RunRecord.index_id))},
    )


def _row(index: str, name: str, description: str | None, created_at: str | None, counts: _Counts) -> ListedIndex:
    index_id = None if index == PLAYGROUND_NAME else index
    items, duration_us, size_bytes = counts.sizes.get(index_id, (0, 0, 0))
    runs = counts.runs.get(index_id, 0)
    return ListedIndex(index, name, description, items, duration_us, size_bytes, runs, created_at)


def _tile(video: Video, body: Mapping[str, Any]) -> MediaTile:
    runs = body["processing_status"] or []
    shown = next((run for run in runs if run["successful_segments"] or run["failed_segments"]), None)
    path = None if shown is None else item_path(shown["run_id"], video.video_id)
    return MediaTile(
        video_id=video.video_id,
        title=video.title,
        media_type=video.media_type,
        duration_us=video.duration_us,
        status=runs[0]["status"] if runs else "not_processed",
        url=path,
        thumbnail=body["thumbnail_uri"],
    )
