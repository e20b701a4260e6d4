"""Route of thumbnails: a sampled frame of a media item as a JPEG."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from promptreel.api.db.models import RunItem, RunRecord, Video
from promptreel.api.runs.run_tables import readable_tables
from promptreel.api.runs.thumbnails import Frame, Thumbnails, analysis_of, frame_at, frame_of_item, shrink
from promptreel.api.runs.video_runs import run_for_video
from promptreel.api.uploads.links import frame_subject, is_valid
from promptreel.api.uploads.media_rows import owned_video
from promptreel.api.web.auth import authorize
from promptreel.api.web.dependencies import DataFolder, Db
from promptreel.api.web.errors import ApiError, not_found
from promptreel.api.web.route import ApiRoute
from promptreel.media.analysis import ANALYSIS_FILE
from promptreel.tables.storage import Storage

router = APIRouter(prefix="/videos", tags=["videos"], route_class=ApiRoute)


async def _links(request: Request) -> Thumbnails:
    return thumbnail_links(request, request.app.state.config.public_url or str(request.base_url).rstrip("/"))


def thumbnail_links(request: Request, base_url: str) -> Thumbnails:
    """Return the renderer of thumbnails whose URLs start with `base_url`; an empty one gives paths of this service."""
    state = request.app.state
    return Thumbnails(state.storage, state.link_secret, base_url)


ThumbnailLinks = Annotated[Thumbnails, Depends(_links)]


@router.get(
    "/{video_id}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}},
)
def get_thumbnail(
    video_id: str,
    database: Db,
    storage: DataFolder,
    request: Request,
    run_id: Annotated[str | None, Query(max_length=255, description="Default: the newest run over the item.")] = None,
    time_us: Annotated[
        int | None, Query(ge=0, lt=1 << 63, description="When the frame was sampled, in microseconds of the item.")
    ] = None,
    expires: int | None = None,
    token: Annotated[str | None, Query(max_length=2048)] = None,
) -> Response:
    """Get a frame of a media item as a JPEG of at most 100 kB, with an API key or with the signed URL of a result's
    `thumbnail_uri`."""
    with database.read() as session:
        if token is None:
            caller = authorize(request, "read")
            owned_video(session, caller, video_id)
            run = run_for_video(session, caller, video_id, run_id)
        else:
            run = _run_of_token(session, request, run_id, video_id, time_us, expires, token)
    frame = _frame(storage, run, video_id, time_us)
    if frame is None:
        raise not_found("thumbnail", video_id, "video")
    tag = f'"{hashlib.sha256(frame.file.encode()).hexdigest()[:32]}"'  # files of an analysis never change
    headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
    if _matches(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    try:
        content = storage.read_bytes(frame.file)
    except FileNotFoundError as error:
        raise not_found("thumbnail", video_id, "video") from error
    return Response(shrink(content), media_type="image/jpeg", headers=headers)


def _run_of_token(
    session: Session,
    request: Request,
    run_id: str | None,
    video_id: str,
    time_us: int | None,
    expires: int | None,
    token: str,
) -> RunRecord | None:
    """Return the run that a signed URL names.

    Raises:
        ApiError: 403 if the URL is invalid or has expired, 404 if the item has been deleted.
    """
    secret = request.app.state.link_secret
    is_complete = run_id is not None and time_us is not None and expires is not None
    if not is_complete or not is_valid(
        secret, frame_subject(run_id or "", video_id, time_us or 0), expires or 0, token
    ):
        raise ApiError(403, "link_expired", "This URL is invalid or has expired; request a new one.")
    video = session.get(Video, video_id)
    if video is None or video.deletion_id is not None:
        raise not_found("video", video_id)
    return session.get(RunRecord, run_id) if session.get(RunItem, (run_id, video_id)) is not None else None


def _frame(storage: Storage, run: RunRecord | None, video_id: str, time_us: int | None) -> Frame | None:
    tables = readable_tables(storage, run.run_id) if run is not None else None
    if tables is None:
        return None
    frame = frame_of_item(tables, video_id) if time_us is None else frame_at(tables, video_id, time_us)
    is_committed = frame is not None and storage.exists(f"{analysis_of(frame)}/{ANALYSIS_FILE}")
    return frame if is_committed else None


def _matches(sent: str, tag: str) -> bool:
    """Whether an If-None-Match header names a tag (RFC 9110, weak comparison)."""
    return any(part.strip().removeprefix("W/") in (tag, "*") for part in sent.split(","))
