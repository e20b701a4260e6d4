"""The playground: media of the caller that lies in no index."""

from __future__ import annotations

from fastapi import APIRouter

from promptreel.api.auth import Reader
from promptreel.api.catalog import videos_page
from promptreel.api.json_response import JsonResponse
from promptreel.api.pagination import DEFAULT_LIMIT, Cursor, Limit
from promptreel.api.services import Db
from promptreel.schemas.wire.common import Page
from promptreel.schemas.wire.videos import VideoBody

router = APIRouter(prefix="/playground", tags=["playground"])


@router.get("/videos", response_model=Page[VideoBody])
def list_playground_videos(
    caller: Reader, database: Db, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> JsonResponse:
    """Lists the media of the playground, newest first."""
    with database.read() as session:
        return JsonResponse(videos_page(session, caller, None, limit, cursor))
