"""Media items in the database: look up, list, add, delete (also with their index), render."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import now, required_time
from promptreel.api.db.engine import Database
from promptreel.api.db.ids import new_id
from promptreel.api.db.models import MediaIndex, Video
from promptreel.api.uploads.index_rows import owned_index
from promptreel.api.uploads.store import StoredMedia, discard
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import not_found
from promptreel.api.web.pagination import decode_cursor, encode_cursor, page_body
from promptreel.schemas.errors import StorageError
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.tables.storage import Storage

NO_MARKER: dict[str, None] = {"marker_id": None, "color": None, "note": None, "updated_at": None}


def owned_video(session: Session, caller: Principal, video_id: str, *, deleted_too: bool = False) -> Video:
    """Return a media item of the caller.

    Args:
        deleted_too: also return a deleted item.

    Raises:
        ApiError: 404 if it does not exist, belongs to another account, or is deleted.
    """
    record = session.get(Video, video_id)
    if record is None or record.account_id != caller.account_id or (record.deletion_id and not deleted_too):
        raise not_found("video", video_id)
    return record


def owned_videos(session: Session, caller: Principal, video_ids: Sequence[str]) -> dict[str, Video]:
    """Return the caller's media items with these ids, by id. Others are omitted."""
    found: dict[str, Video] = {}
    for first in range(0, len(video_ids), 500):  # SQLite limits the parameters of a statement
        rows = select(Video).where(
            Video.video_id.in_(video_ids[first : first + 500]),
            Video.account_id == caller.account_id,
            Video.deletion_id.is_(None),
        )
        found |= {video.video_id: video for video in session.scalars(rows)}
    return found


def videos_in(caller: Principal, index_id: str | None) -> Select[Video]:
    """Select the media items of an index, or of the playground (None)."""
    is_inside = Video.index_id.is_(None) if index_id is None else Video.index_id == index_id
    return select(Video).where(Video.account_id == caller.account_id, is_inside, Video.deletion_id.is_(None))


def videos_page(
    session: Session, caller: Principal, index_id: str | None, limit: int, cursor: str | None
) -> dict[str, Any]:
    """Return one page of the media of an index, or of the playground (None), newest first."""
    scope = ("videos", caller.account_id, index_id)
    position = decode_cursor(cursor, scope, (datetime, str))
    rows = videos_in(caller, index_id)
    if position is not None:
        created_at, video_id = position
        is_older = Video.created_at < created_at
        rows = rows.where(or_(is_older, and_(Video.created_at == created_at, Video.video_id < video_id)))
    found = session.scalars(rows.order_by(Video.created_at.desc(), Video.video_id.desc()).limit(limit + 1)).all()
    has_more = len(found) > limit
    shown = found[:limit]
    next_cursor = encode_cursor(scope, [shown[-1].created_at.isoformat(), shown[-1].video_id]) if has_more else None
    return page_body([video_body(video) for video in shown], limit, next_cursor)


def add_video(
    session: Session,
    caller: Principal,
    video_id: str,
    title: str,
    index_id: str | None,
    stored: StoredMedia,
    video_uri: str | None,
) -> Video:
    """Add the row of a media item whose bytes are stored."""
    created_at = now()
    record = Video(
        video_id=video_id,
        account_id=caller.account_id,
        index_id=index_id,
        title=title,
        video_uri=video_uri or f"media://{video_id}",
        media_uri=stored.media_uri,
        source_kind=stored.kind,
        media_type=stored.info.media_type,
        duration_us=stored.info.duration_us,
        size_bytes=stored.info.size_bytes,
        status="not_processed",
        created_at=created_at,
        updated_at=created_at,
    )
    session.add(record)
    return record


def mark_deleted(video: Video) -> None:
    """Mark a media item as deleted, if it is not yet. Call `discard_bytes` after the commit to remove its bytes."""
    if video.deletion_id is None:
        video.deletion_id = new_id("deletion")
        video.updated_at = now()


def delete_index_of(database: Database, storage: Storage, caller: Principal, index_id: str) -> MediaIndex:
    """Delete an index and its media items, not the tables of runs. Idempotent, so that a partial deletion can be finished.

    Raises:
        ApiError: 404 if the index does not exist.
        StorageError: some bytes could not be removed.
    """
    with database.write() as session:
        record = owned_index(session, caller, index_id, deleted_too=True, lock={})
        if record.deletion_id is None:
            record.deletion_id = new_id("deletion")
        videos = session.scalars(select(Video).where(Video.index_id == index_id)).all()
        for video in videos:
            mark_deleted(video)
    discard_bytes(storage, videos)
    return record


def discard_bytes(storage: Storage, videos: Iterable[Video]) -> None:
    """Remove the bytes that this service stored for deleted media. Call it after the deletion is committed; it is
    idempotent.

    Raises:
        StorageError: some bytes could not be removed; the rest are.
    """
    failure: StorageError | None = None
    for video in videos:
        try:
            discard(storage, video.media_uri, video.source_kind)
        except StorageError as error:
            failure = failure or error
    if failure is not None:
        raise failure


def video_body(video: Video) -> dict[str, Any]:
    """Render a media item as JSON values."""
    return {
        "video_id": video.video_id,
        "title": video.title,
        "video_uri": video.video_uri,
        "status": video.status,
        "processing_status": None,
        "created_at": required_time(video.created_at),
        "updated_at": required_time(video.updated_at),
        "duration_seconds": None if video.duration_us is None else seconds_from_us(video.duration_us),
        "metadata_keys": None,
        "media_type": video.media_type,
        "marker": NO_MARKER,
        "index_id": video.index_id,
        "size_bytes": video.size_bytes,
        "thumbnail_uri": None,
        "thumbnail_available": False,
    }
