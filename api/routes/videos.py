"""Media items: upload, register, read, delete, and their segments."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse, Response, StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import now, wire_time
from promptreel.api.db.engine import Database
from promptreel.api.db.events import record_event, wait_for_recorders
from promptreel.api.db.ids import new_id
from promptreel.api.db.models import RunItem, RunRecord, Video
from promptreel.api.runs.body import run_body
from promptreel.api.runs.media_status import processing_status
from promptreel.api.runs.results import all_segments, segments_page
from promptreel.api.runs.store import owned_run
from promptreel.api.uploads.index_rows import owned_index
from promptreel.api.uploads.links import LIFETIME_S, is_valid, link_token
from promptreel.api.uploads.media_rows import (
    add_video,
    discard_bytes,
    mark_deleted,
    owned_video,
    owned_videos,
    video_body,
)
from promptreel.api.uploads.store import (
    StoredMedia,
    blocks_of,
    discard,
    is_local,
    open_object,
    register_uri,
    store_upload,
)
from promptreel.api.web.auth import Admin, Principal, Reader, Writer
from promptreel.api.web.damage import left_out
from promptreel.api.web.dependencies import Config, DataFolder, Db
from promptreel.api.web.errors import ApiError, invalid, not_found
from promptreel.api.web.idempotency import IdempotencyKey, answer_once, stored_response
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.pagination import (
    DEFAULT_LIMIT,
    Cursor,
    Limit,
    decode_cursor,
    encode_cursor,
    page_body,
)
from promptreel.schemas.errors import RunDamaged
from promptreel.schemas.wire.common import DeletionStatus, Page, StorableText
from promptreel.schemas.wire.prompt_runs import PromptRunBody
from promptreel.schemas.wire.videos import (
    ImportOutputs,
    RegisteredVideo,
    RegisterVideo,
    SegmentBatch,
    SegmentBody,
    SignedUrl,
    SignedUrlRequest,
    VideoBatch,
    VideoBody,
    VideoSegments,
    VideoStatus,
    VideoWithDetails,
)
from promptreel.tables.storage import Storage

router = APIRouter(prefix="/videos", tags=["videos"])
jobs_router = APIRouter(prefix="/import-jobs", tags=["videos"])

_BLOCK = 1 << 20
_log = logging.getLogger(__name__)


@router.post("", status_code=201, response_model=RegisteredVideo)
async def register_video(
    body: RegisterVideo,
    caller: Writer,
    database: Db,
    storage: DataFolder,
    config: Config,
    request: Request,
    key: IdempotencyKey = None,
) -> JsonResponse:
    """Registers media that lies elsewhere: a file under an allowed folder, an https address, an object of a bucket."""
    new = _NewVideo(new_id("vid"), body.title, body.index_id, body.video_uri)
    once = _Once(database, caller, request.url.path, key, body.model_dump(mode="json"))
    limiter = None if is_local(body.video_uri) else request.app.state.fetches
    register = functools.partial(register_uri, storage, config, new.video_id, body.video_uri)
    return await to_thread.run_sync(_add_once, once, storage, new, register, limiter=limiter)


@router.post("/upload", status_code=201, response_model=RegisteredVideo)
def upload_video(
    caller: Writer,
    database: Db,
    storage: DataFolder,
    config: Config,
    request: Request,
    file: Annotated[UploadFile, File(description="A video, audio file or image.")],
    title: Annotated[StorableText, Form(min_length=1, max_length=255)],
    index_id: Annotated[str | None, Form()] = None,
    key: IdempotencyKey = None,
) -> JsonResponse:
    """Uploads a media item into an index, or into the playground where none is named."""
    index_id, name = index_id or None, file.filename or ""
    new = _NewVideo(new_id("vid"), title, index_id, None)
    with storage.work_folder() as work:
        source = work / "upload"
        content_hash = _save(file, source, config.max_upload_bytes)
        content = {"title": title, "index_id": index_id, "filename": name, "sha256": content_hash}
        once = _Once(database, caller, request.url.path, key, content)
        return _add_once(once, storage, new, lambda: store_upload(storage, config, new.video_id, name, source))


@router.post("/batch", response_model=list[VideoWithDetails])
def get_videos(body: VideoBatch, caller: Reader, database: Db) -> JsonResponse:
    """Gives several media items; ids that are not the caller's are left out."""
    with database.read() as session:
        found = owned_videos(session, caller, body.video_ids)
    details = {"gif_data": None, "first_thumbnail": None}
    return JsonResponse([{**video_body(found[key]), **details} for key in body.video_ids if key in found])


@router.post("/batch/status", response_model=list[VideoStatus])
def get_video_statuses(body: VideoBatch, caller: Reader, database: Db, storage: DataFolder) -> JsonResponse:
    """Says where several media items stand in their runs, segment by segment."""
    with database.read() as session:
        found = owned_videos(session, caller, body.video_ids)
        rows = [
            {
                "video_id": video_id,
                "status": found[video_id].status,
                "processing_status": processing_status(session, storage, found[video_id], with_segments=True),
            }
            for video_id in body.video_ids
            if video_id in found
        ]
    return JsonResponse(rows)


@router.post("/batch/segments", response_model=list[VideoSegments])
def get_segments_of_videos(body: SegmentBatch, caller: Reader, database: Db, storage: DataFolder) -> JsonResponse:
    """Gives the segments of several media items, each through a run, or through its newest finished one."""
    wanted = [(target.video_id, target.run_id) for target in body.targets or ()]
    wanted += [(video_id, None) for video_id in body.video_ids or ()]
    rows = []
    with database.read() as session:
        found = owned_videos(session, caller, [video_id for video_id, _ in wanted])
        for video_id, run_id in wanted:
            if video_id in found:
                run = _run_of_video(session, caller, video_id, run_id)
                resolved = run.run_id if run is not None else None
                segments: list[dict[str, Any]] = []
                try:
                    segments = all_segments(storage, run, video_id) if run is not None else []
                except RunDamaged as error:
                    if run_id is not None:
                        raise
                    left_out(error)
                rows.append({"video_id": video_id, "run_id": resolved, "segments": segments})
    return JsonResponse(rows)


@router.post("/signed-url", response_model=SignedUrl)
def sign_url(body: SignedUrlRequest, caller: Reader, database: Db, request: Request, config: Config) -> JsonResponse:
    """Gives an address from which the bytes behind a `media://` URI can be fetched for an hour, without a key."""
    video_id = body.gcs_uri.removeprefix("media://").split("/", 1)[0]
    if not body.gcs_uri.startswith("media://"):
        raise invalid("gcs_uri: is not one that this service gave out", "gcs_uri")
    with database.read() as session:
        owned_video(session, caller, video_id)
    expires = int(time.time()) + LIFETIME_S
    token = link_token(request.app.state.link_secret, video_id, expires)
    base = config.public_url or str(request.base_url).rstrip("/")
    url = f"{base}/api/v2/videos/{video_id}/content?expires={expires}&token={token}"
    moment = now().fromtimestamp(expires, tz=now().tzinfo)
    return JsonResponse({"signed_url": url, "expires_at": wire_time(moment)})


@router.get(
    "/{video_id}/content", response_class=Response, responses={200: {"content": {"application/octet-stream": {}}}}
)
def get_content(video_id: str, database: Db, request: Request, expires: int, token: str) -> Response:
    """Download an item's bytes with a signed address."""
    if not is_valid(request.app.state.link_secret, video_id, expires, token):
        raise ApiError(403, "link_expired", "This address is wrong or has expired; ask for a new one.")
    with database.read() as session:
        video = session.get(Video, video_id)
    if video is None or video.deletion_id is not None:
        raise not_found("video", video_id)
    try:
        if "://" not in video.media_uri:
            return FileResponse(video.media_uri, stat_result=os.stat(video.media_uri))
        file, size = open_object(video.media_uri)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise not_found("media", video_id) from error
    headers = {} if size is None else {"Content-Length": str(size)}
    return StreamingResponse(blocks_of(file), media_type="application/octet-stream", headers=headers)


@router.get("/{video_id}", response_model=VideoBody)
def get_video(video_id: str, caller: Reader, database: Db, storage: DataFolder) -> JsonResponse:
    """Gives one media item and how its runs stand on it."""
    with database.read() as session:
        video = owned_video(session, caller, video_id)
        status = processing_status(session, storage, video)
        return JsonResponse({**video_body(video), "processing_status": status})


@router.delete("/{video_id}", response_model=DeletionStatus)
def remove_video(video_id: str, caller: Admin, database: Db, storage: DataFolder) -> JsonResponse:
    """Deletes a media item. Tables of runs that have used it stay. Doing it again removes what was left."""
    with database.write() as session:
        video = owned_video(session, caller, video_id, deleted_too=True)
        mark_deleted(video)
    discard_bytes(storage, [video])
    return JsonResponse(_deletion(video))


@router.get("/{video_id}/deletion", response_model=DeletionStatus)
def video_deletion(video_id: str, caller: Reader, database: Db) -> JsonResponse:
    """Says how far a deletion is."""
    with database.read() as session:
        video = owned_video(session, caller, video_id, deleted_too=True)
        if video.deletion_id is None:
            raise not_found("deletion", video_id)
        return JsonResponse(_deletion(video))


@router.get("/{video_id}/segments", response_model=Page[SegmentBody])
def list_segments(
    video_id: str,
    caller: Reader,
    database: Db,
    storage: DataFolder,
    run_id: str | None = None,
    latest_run: bool = True,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> JsonResponse:
    """Lists an item's segments, seen through a run, or through its newest one."""
    scope, named_run = ("segments through the newest run", video_id), run_id
    if run_id is None and (place := decode_cursor(cursor, scope, (str, str))) is not None:
        named_run, cursor = place  # the run of the first page, whatever has ended since
    with database.read() as session:
        owned_video(session, caller, video_id)
        run = _run_of_video(session, caller, video_id, named_run)
    if run is None:
        return JsonResponse(page_body([], limit, None))
    page = segments_page(storage, run, video_id, limit, cursor)
    if run_id is None and (further := page["pagination"]["next_cursor"]) is not None:
        page["pagination"]["next_cursor"] = encode_cursor(scope, [run.run_id, further])
    return JsonResponse(page)


@router.get("/{video_id}/prompt-runs", response_model=list[PromptRunBody])
def list_video_runs(
    video_id: str, caller: Reader, database: Db, limit: Annotated[int | None, Query(ge=1, le=200)] = None
) -> JsonResponse:
    """Lists the runs over a media item, newest first."""
    with database.read() as session:
        owned_video(session, caller, video_id)
        runs = session.scalars(_runs_of_video(caller, video_id).limit(limit))
        return JsonResponse([run_body(run) for run in runs])


@jobs_router.get("/{job_id}", response_model=RegisteredVideo)
def get_import_job(job_id: str, caller: Reader, database: Db) -> JsonResponse:
    """Gives the finished job behind an upload or a registration."""
    with database.read() as session:
        return JsonResponse(_registered(owned_video(session, caller, _video_of_job(job_id))))


@jobs_router.get("/{job_id}/outputs", response_model=ImportOutputs)
def get_import_outputs(job_id: str, caller: Reader, database: Db) -> JsonResponse:
    """Gives what a job made: one media item."""
    with database.read() as session:
        return JsonResponse(_outputs(owned_video(session, caller, _video_of_job(job_id))))


@dataclass(frozen=True, slots=True)
class _NewVideo:
    video_id: str
    title: str
    index_id: str | None
    video_uri: str | None


@dataclass(frozen=True, slots=True)
class _Once:
    """A keyed request; see `answer_once`."""

    database: Database
    caller: Principal
    path: str
    key: str | None
    content: dict[str, Any]


def _add_once(once: _Once, storage: Storage, new: _NewVideo, store: Callable[[], StoredMedia]) -> JsonResponse:
    """Stores an item's bytes, then adds its row, once for a key. Bytes that no row came to be for are removed."""
    place = (once.database, once.caller, "POST", once.path, once.key, once.content)
    if (kept := stored_response(*place)) is not None:
        return kept
    _check_index(once.database, once.caller, new.index_id)
    stored = store()
    added = False

    def add(session: Session) -> tuple[int, dict[str, Any]]:
        nonlocal added
        added = True
        return 201, _added(session, once.caller, new, stored)

    try:
        answer = answer_once(*place, add)
    except BaseException:
        added = _may_exist(once.database, new.video_id)
        raise
    finally:
        if not added:
            discard(storage, stored.media_uri, stored.kind)
    return answer


def _may_exist(database: Database, video_id: str) -> bool:
    """Whether there is a row, after a transaction of which it is not known whether it was committed; True where that
    cannot be found out."""
    try:
        with database.read() as session:
            wait_for_recorders(session)
            return session.get(Video, video_id) is not None
    except Exception as error:
        _log.warning("the bytes of %s are left, with or without its row: %s", video_id, error)
        return True


def _added(session: Session, caller: Principal, new: _NewVideo, stored: StoredMedia) -> dict[str, Any]:
    if new.index_id is not None:  # it may have been deleted while the bytes came
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
    return _registered(video)


def _registered(video: Video) -> dict[str, Any]:
    """A video and the finished import job that some clients expect, in one body."""
    return {
        **video_body(video),
        "status": "completed",
        "message": "stored",
        "job_id": f"job_{video.video_id}",
        "phase": "completed",
        "source_kind": video.source_kind,
        "target_index_id": video.index_id,
        "source_prefix": "",
        "file_pattern": "*",
        "recursive": True,
        "progress": {
            "total_files": 1,
            "imported": 1,
            "failed": 0,
            "skipped": 0,
            "bytes_transferred": video.size_bytes,
            "current_file": None,
            "parts_total": 1,
            "parts_completed": 1,
            "parts_failed": 0,
        },
        "outputs": {"items": [], "next_cursor": None, "total": 1},
        "execution": {"status": "not_requested"},
        "video_ids": [video.video_id],
        "failed_files": [],
        "skipped_files": [],
        "thumbnail_uri": None,
        "thumbnail_data": None,
    }


def _outputs(video: Video) -> dict[str, Any]:
    item = {
        "file_id": video.video_id,
        "file_name": video.title,
        "source_ordinal": 0,
        "part_index": 0,
        "part_count": 1,
        "source_start_seconds": 0.0,
        "source_end_seconds": (video.duration_us or 0) / 1_000_000,
        "video_id": video.video_id,
        "title": video.title,
        "status": "completed",
    }
    return {"items": [item], "next_cursor": None, "total": 1}


def _video_of_job(job_id: str) -> str:
    if not job_id.startswith("job_"):
        raise not_found("import_job", job_id)
    return job_id.removeprefix("job_")


def _check_index(database: Database, caller: Principal, index_id: str | None) -> None:
    if index_id is not None:
        with database.read() as session:
            owned_index(session, caller, index_id)


def _save(file: UploadFile, out: Path, max_bytes: int) -> str:
    """Writes an upload to a file; returns the SHA-256 of its bytes."""
    hashed = hashlib.sha256()
    size = 0
    with out.open("wb") as target:
        while block := file.file.read(_BLOCK):
            size += len(block)
            if size > max_bytes:
                raise ApiError(413, "media_too_large", f"file: is larger than {max_bytes} bytes.")
            hashed.update(block)
            target.write(block)
    return hashed.hexdigest()


def _runs_of_video(caller: Principal, video_id: str) -> Any:
    return (
        select(RunRecord)
        .join(RunItem, RunItem.run_id == RunRecord.run_id)
        .where(RunRecord.account_id == caller.account_id, RunItem.video_id == video_id)
        .order_by(RunRecord.created_at.desc(), RunRecord.run_id.desc())
    )


def _run_of_video(session: Session, caller: Principal, video_id: str, run_id: str | None) -> RunRecord | None:
    """The named run, or the newest over the item that has committed tables."""
    if run_id is not None:
        return owned_run(session, caller, run_id)
    committed = _runs_of_video(caller, video_id).where(RunRecord.manifest_number.is_not(None))
    return session.scalars(committed.limit(1)).first()


def _deletion(video: Video) -> dict[str, Any]:
    return {
        "video_id": video.video_id,
        "index_id": None,
        "deletion_id": video.deletion_id,
        "status": "deleted",
        "retry_after_seconds": None,
        "message": f"{video.video_id} is deleted; tables of runs stay.",
    }
