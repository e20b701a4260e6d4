"""Route of the playground: the caller's media that are in no index."""

from __future__ import annotations

from fastapi import APIRouter

from promptreel.api.routes.thumbnails import ThumbnailLinks
from promptreel.api.runs.media_status import add_processing_status
from promptreel.api.runs.thumbnails import add_item_thumbnails
from promptreel.api.uploads.media_rows import videos_page
from promptreel.api.web.auth import Reader
from promptreel.api.web.dependencies import DataFolder, Db
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.pagination import DEFAULT_LIMIT, Cursor, Limit
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.wire.common import Page
from promptreel.schemas.wire.videos import VideoBody

router = APIRouter(prefix="/playground", tags=["playground"], route_class=ApiRoute)


@router.get("/videos", response_model=Page[VideoBody])
def list_playground_videos(
    caller: Reader,
    database: Db,
    storage: DataFolder,
    thumbnails: ThumbnailLinks,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> JsonResponse:
    """List the media items in the playground, newest first, each with the status of its latest runs."""
    with database.read() as session:
        page = videos_page(session, caller, None, limit, cursor)
        add_processing_status(session, storage, caller.account_id, page["data"])
    add_item_thumbnails(thumbnails, page["data"])
    return JsonResponse(page)
