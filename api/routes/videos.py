"""Routes of media items: upload, register, get, delete, segments, signed URLs."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import Response

from promptreel.api.db.clock import now, wire_time
from promptreel.api.db.ids import new_id
from promptreel.api.db.models import Video
from promptreel.api.routes.thumbnails import ThumbnailLinks
from promptreel.api.runs.body import run_body
from promptreel.api.runs.media_status import add_processing_status, processing_status
from promptreel.api.runs.results import all_segments, segments_page
from promptreel.api.runs.store import owned_runs
from promptreel.api.runs.thumbnails import add_item_thumbnails
from promptreel.api.runs.video_runs import run_for_video, runs_over_video
from promptreel.api.uploads.add_media import NewVideo, add_media, register_media, save_upload
from promptreel.api.uploads.content import content_response
from promptreel.api.uploads.links import LIFETIME_S, content_url, is_valid
from promptreel.api.uploads.media_rows import (
    discard_bytes,
    mark_deleted,
    owned_video,
    owned_videos,
    video_body,
)
from promptreel.api.uploads.store import store_upload
from promptreel.api.web.auth import Admin, Reader, Writer
from promptreel.api.web.damage import report_skipped
from promptreel.api.web.dependencies import Config, DataFolder, Db
from promptreel.api.web.errors import ApiError, invalid, not_found
from promptreel.api.web.idempotency import IdempotencyKey, KeyedRequest
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.pagination import (
    DEFAULT_LIMIT,
    Cursor,
    Limit,
    decode_cursor,
    encode_cursor,
    page_body,
)
from promptreel.api.web.route import ApiRoute, omitted_header
from promptreel.schemas.errors import RunDamaged
from promptreel.schemas.wire.common import DeletionStatus, RunPage, StorableText
from promptreel.schemas.wire.prompt_runs import PromptRunBody
from promptreel.schemas.wire.videos import (
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

router = APIRouter(prefix="/videos", tags=["videos"], route_class=ApiRoute)


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
    """Register media by URI: a file under an allowed folder, an HTTPS URL, or an object in a bucket."""
    keyed = KeyedRequest(database, caller, "POST", request.url.path, key, body.model_dump(mode="json"))
    return await register_media(keyed, storage, config, body, request.app.state.fetches)


@router.post("/upload", status_code=201, response_model=RegisteredVideo)
def upload_video(
    caller: Writer,
    database: Db,
    storage: DataFolder,
    config: Config,
    request: Request,
    file: Annotated[UploadFile, File(description="A video, audio or image file.")],
    title: Annotated[StorableText, Form(min_length=1, max_length=255)],
    index_id: Annotated[str | None, Form()] = None,
    key: IdempotencyKey = None,
) -> JsonResponse:
    """Upload a media item to an index, or to the playground if no index is given."""
    index_id, name = index_id or None, file.filename or ""
    new = NewVideo(new_id("vid"), title, index_id, None)
    with storage.work_folder() as work:
        source = work / "upload"
        content_hash = save_upload(file, source, config.max_upload_bytes)
        content = {"title": title, "index_id": index_id, "filename": name, "sha256": content_hash}
        keyed = KeyedRequest(database, caller, "POST", request.url.path, key, content)
        return add_media(keyed, storage, new, lambda: store_upload(storage, config, new.video_id, name, source))


@router.post("/batch", response_model=list[VideoWithDetails])
def get_videos(
    body: VideoBatch, caller: Reader, database: Db, storage: DataFolder, thumbnails: ThumbnailLinks
) -> JsonResponse:
    """Get several media items. Unknown ids are omitted, and named in the X-Request-Warning header."""
    details = {"gif_data": None, "first_thumbnail": None}
    with database.read() as session:
        found = owned_videos(session, caller, body.video_ids)
        bodies = [{**video_body(found[key]), **details} for key in body.video_ids if key in found]
        add_processing_status(session, storage, caller.account_id, bodies)
    add_item_thumbnails(thumbnails, bodies)
    return JsonResponse(bodies, headers=omitted_header(body.video_ids, found))


@router.post("/batch/status", response_model=list[VideoStatus])
def get_video_statuses(body: VideoBatch, caller: Reader, database: Db, storage: DataFolder) -> JsonResponse:
    """Get the processing status of several media items, segment by segment. Unknown ids are omitted, and named in the
    X-Request-Warning header."""
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
    return JsonResponse(rows, headers=omitted_header(body.video_ids, found))


@router.post("/batch/segments", response_model=list[VideoSegments])
def get_segments_of_videos(
    body: SegmentBatch, caller: Reader, database: Db, thumbnails: ThumbnailLinks
) -> JsonResponse:
    """Get the segments of several media items, each from the given run or its newest run with results. Unknown ids of
    items are omitted, and named in the X-Request-Warning header."""
    requested = [(target.video_id, target.run_id) for target in body.targets or ()]
    requested += [(video_id, None) for video_id in body.video_ids or ()]
    rows = []
    with database.read() as session:
        owned_runs(session, caller, [run_id for _, run_id in requested if run_id is not None])
        found = owned_videos(session, caller, [video_id for video_id, _ in requested])
        for video_id, run_id in requested:
            if video_id in found:
                run = run_for_video(session, caller, video_id, run_id)
                resolved = run.run_id if run is not None else None
                segments: list[dict[str, Any]] = []
                try:
                    segments = all_segments(thumbnails, run, video_id) if run is not None else []
                except RunDamaged as error:
                    if run_id is not None:
                        raise
                    report_skipped(error)
                status = run.status if run is not None else None
                rows.append({"video_id": video_id, "run_id": resolved, "run_status": status, "segments": segments})
    return JsonResponse(rows, headers=omitted_header([video_id for video_id, _ in requested], found))


@router.post("/signed-url", response_model=SignedUrl)
def sign_url(body: SignedUrlRequest, caller: Reader, database: Db, request: Request, config: Config) -> JsonResponse:
    """Create a signed URL to download the content of a `media://` URI without an API key. It is valid for one hour."""
    video_id = body.gcs_uri.removeprefix("media://").split("/", 1)[0]
    if not body.gcs_uri.startswith("media://"):
        raise invalid("gcs_uri: must be a media:// URI of this service", "gcs_uri")
    with database.read() as session:
        owned_video(session, caller, video_id)
    expires = int(time.time()) + LIFETIME_S
    base = config.public_url or str(request.base_url).rstrip("/")
    url = content_url(request.app.state.link_secret, video_id, expires, base)
    expires_at = now().fromtimestamp(expires, tz=now().tzinfo)
    return JsonResponse({"signed_url": url, "expires_at": wire_time(expires_at)})


@router.get(
    "/{video_id}/content", response_class=Response, responses={200: {"content": {"application/octet-stream": {}}}}
)
def get_content(video_id: str, database: Db, request: Request, expires: int, token: str) -> Response:
    """Download a media item, or a range of its bytes, with a signed URL."""
    if not is_valid(request.app.state.link_secret, video_id, expires, token):
        raise ApiError(403, "link_expired", "This URL is invalid or has expired; request a new one.")
    with database.read() as session:
        video = session.get(Video, video_id)
    if video is None or video.deletion_id is not None:
        raise not_found("video", video_id)
    try:
        return content_response(request, video)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise not_found("media", video_id, "video") from error


@router.get("/{video_id}", response_model=VideoBody)
def get_video(
    video_id: str, caller: Reader, database: Db, storage: DataFolder, thumbnails: ThumbnailLinks
) -> JsonResponse:
    """Get a media item and its processing status."""
    with database.read() as session:
        video = owned_video(session, caller, video_id)
        body = {**video_body(video), "processing_status": processing_status(session, storage, video)}
    add_item_thumbnails(thumbnails, [body])
    return JsonResponse(body)


@router.delete("/{video_id}", response_model=DeletionStatus)
def remove_video(video_id: str, caller: Admin, database: Db, storage: DataFolder) -> JsonResponse:
    """Delete a media item, not the tables of runs. Repeat the request to finish a partial deletion."""
    with database.write() as session:
        video = owned_video(session, caller, video_id, deleted_too=True)
        mark_deleted(video)
    discard_bytes(storage, [video])
    return JsonResponse(_deletion(video))


@router.get("/{video_id}/deletion", response_model=DeletionStatus)
def video_deletion(video_id: str, caller: Reader, database: Db) -> JsonResponse:
    """Get the status of the deletion of a media item."""
    with database.read() as session:
        video = owned_video(session, caller, video_id, deleted_too=True)
        if video.deletion_id is None:
            raise not_found("deletion", video_id, "video")
        return JsonResponse(_deletion(video))


@router.get("/{video_id}/segments", response_model=RunPage[SegmentBody])
def list_segments(
    video_id: str,
    caller: Reader,
    database: Db,
    thumbnails: ThumbnailLinks,
    run_id: str | None = None,
    latest_run: bool = True,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> JsonResponse:
    """List a media item's segments, from the given run or its newest run with results."""
    scope, named_run = ("segments through the newest run", video_id), run_id
    if run_id is None and (position := decode_cursor(cursor, scope, (str, str))) is not None:
        named_run, cursor = position  # the run of the first page, even if a newer one has finished since
    with database.read() as session:
        owned_video(session, caller, video_id)
        run = run_for_video(session, caller, video_id, named_run)
    if run is None:
        return JsonResponse({**page_body([], limit, None), "run_status": None, "is_complete": True})
    page = segments_page(thumbnails, run, video_id, limit, cursor)
    if run_id is None and (run_cursor := page["pagination"]["next_cursor"]) is not None:
        page["pagination"]["next_cursor"] = encode_cursor(scope, [run.run_id, run_cursor])
    return JsonResponse(page)


@router.get("/{video_id}/prompt-runs", response_model=list[PromptRunBody])
def list_video_runs(
    video_id: str, caller: Reader, database: Db, limit: Annotated[int | None, Query(ge=1, le=200)] = None
) -> JsonResponse:
    """List the runs over a media item, newest first."""
    with database.read() as session:
        owned_video(session, caller, video_id)
        runs = session.scalars(runs_over_video(caller, video_id).limit(limit))
        return JsonResponse([run_body(run) for run in runs])


def _deletion(video: Video) -> dict[str, Any]:
    return {
        "video_id": video.video_id,
        "index_id": None,
        "deletion_id": video.deletion_id,
        "status": "deleted",
        "retry_after_seconds": None,
        "message": f"Video {video.video_id} is deleted; the tables of runs are not.",
    }
