"""Add a media item: store its bytes, then its row, once per idempotency key."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from anyio import CapacityLimiter, to_thread
from fastapi import UploadFile
from sqlalchemy.orm import Session

from promptreel.api.config import ApiConfig
from promptreel.api.db.engine import Database
from promptreel.api.db.events import lock_events, record_event
from promptreel.api.db.ids import new_id
from promptreel.api.db.models import Video
from promptreel.api.uploads.import_jobs import import_job_body
from promptreel.api.uploads.index_rows import owned_index
from promptreel.api.uploads.media_rows import add_video
from promptreel.api.uploads.store import StoredMedia, discard, is_local, register_uri
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import ApiError
from promptreel.api.web.idempotency import KeyedRequest, answer_once, stored_response
from promptreel.api.web.json_response import JsonResponse
from promptreel.schemas.wire.videos import RegisterVideo
from promptreel.tables.storage import Storage

_BLOCK: Final = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewVideo:
    """A media item to be stored."""

    video_id: str
    title: str
    index_id: str | None
    video_uri: str | None


def save_upload(file: UploadFile, out: Path, max_bytes: int) -> str:
    """Write an upload to a file and return the SHA-256 of its bytes in hex.

    Raises:
        ApiError: 413 if the upload exceeds `max_bytes`.
    """
    sha256 = hashlib.sha256()
    size = 0
    with out.open("wb") as target:
        while block := file.file.read(_BLOCK):
            size += len(block)
            if size > max_bytes:
                raise ApiError(413, "media_too_large", f"file: exceeds the limit of {max_bytes} bytes.")
            sha256.update(block)
            target.write(block)
    return sha256.hexdigest()


async def register_media(
    keyed: KeyedRequest, storage: Storage, config: ApiConfig, body: RegisterVideo, fetches: CapacityLimiter
) -> JsonResponse:
    """Register media by URI, once per idempotency key.

    Args:
        fetches: limits concurrent downloads.

    Raises:
        ApiError, MediaError: see `register_uri`.
    """
    new = NewVideo(new_id("vid"), body.title, body.index_id, body.video_uri)
    register = functools.partial(register_uri, storage, config, new.video_id, body.video_uri)
    limiter = None if is_local(body.video_uri) else fetches
    return await to_thread.run_sync(add_media, keyed, storage, new, register, limiter=limiter)


def add_media(keyed: KeyedRequest, storage: Storage, new: NewVideo, store: Callable[[], StoredMedia]) -> JsonResponse:
    """Store an item's bytes and then add its row, once per idempotency key. Remove the bytes if no row is added."""
    if (earlier_response := stored_response(keyed)) is not None:
        return earlier_response
    _check_index(keyed.database, keyed.caller, new.index_id)
    stored = store()
    added = False

    def add(session: Session) -> tuple[int, dict[str, Any]]:
        nonlocal added
        added = True
        return 201, _add_row(session, keyed.caller, new, stored)

    try:
        response = answer_once(keyed, add)
    except BaseException:
        added = _may_exist(keyed.database, new.video_id)
        raise
    finally:
        if not added:
            discard(storage, stored.media_uri, stored.kind)
    return response


def _may_exist(database: Database, video_id: str) -> bool:
    """Return whether the row may exist after a transaction of unknown outcome. True if the database cannot be read."""
    try:
        with database.read() as session:
            lock_events(session)
            return session.get(Video, video_id) is not None
    except Exception as error:
        _log.warning("cannot look up the row of %s, so its bytes are not removed: %s", video_id, error)
        return True


def _add_row(session: Session, caller: Principal, new: NewVideo, stored: StoredMedia) -> dict[str, Any]:
    if new.index_id is not None:  # check again: another request may have deleted it during the upload
        owned_index(session, caller, new.index_id, lock={"read": True})
    video = add_video(session, caller, new.video_id, new.title, new.index_id, stored, new.video_uri)
    session.flush()
    record_event(
        session,
        caller.account_id,
        "media.created",
        video_id=new.video_id,
        index_id=new.index_id,
        payload={"media_type": video.media_type, "title": new.title},
    )
    return import_job_body(video)


def _check_index(database: Database, caller: Principal, index_id: str | None) -> None:
    if index_id is not None:
        with database.read() as session:
            owned_index(session, caller, index_id)
