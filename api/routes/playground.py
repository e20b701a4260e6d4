"""Route of the playground: the caller's media that are in no index."""

from __future__ import annotations

from fastapi import APIRouter

from promptreel.api.uploads.media_rows import videos_page
from promptreel.api.web.auth import Reader
from promptreel.api.web.dependencies import Db
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.pagination import DEFAULT_LIMIT, Cursor, Limit
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.wire.common import Page
from promptreel.schemas.wire.videos import VideoBody

router = APIRouter(prefix="/playground", tags=["playground"], route_class=ApiRoute)


@router.get("/videos", response_model=Page[VideoBody])
def list_playground_videos(
    caller: Reader, database: Db, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> JsonResponse:
    """List the media items in the playground, newest first."""
    with database.read() as session:
        return JsonResponse(videos_page(session, caller, None, limit, cursor))
