"""The page of one item of a run, and the page of the model calls behind its answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from promptreel.api.db.engine import Database
from promptreel.api.db.models import RunItem, RunRecord, Video
from promptreel.api.routes.thumbnails import thumbnail_links
from promptreel.api.runs.run_tables import RunTables, readable_tables
from promptreel.api.runs.statuses import FINAL
from promptreel.api.runs.store import owned_run
from promptreel.api.site.item_calls import item_calls
from promptreel.api.site.item_view import ItemQuery, ShownItem, shown_item
from promptreel.api.uploads.links import content_url
from promptreel.api.uploads.local_files import location_of
from promptreel.api.web.auth import Principal, Reader
from promptreel.api.web.dependencies import DataFolder, Db
from promptreel.api.web.errors import ApiError, not_found
from promptreel.api.web.page import page
from promptreel.schemas.uris import is_remote
from promptreel.tables.storage import Storage

router = APIRouter()

Number = Annotated[int, Query(alias="page", ge=1, le=1_000_000)]
SegmentId = Annotated[str | None, Query(max_length=255)]


@router.get("/runs/{run_id}/items/{video_id}")
def item_page(
    run_id: str,
    video_id: str,
    request: Request,
    caller: Reader,
    database: Db,
    storage: DataFolder,
    number: Number = 1,
    segment_id: SegmentId = None,
) -> Response:
    """Show an item of a run with its player, timeline, segments and synthesis."""
    run, video = _item_of_run(database, caller, run_id, video_id)
    query = ItemQuery(run_id, video_id, number)
    item = shown_item(_tables(storage, run), query, thumbnail_links(request, ""), segment_id)
    no_content = _why_no_content(request, video, item)
    content = content_url(request.app.state.link_secret, video_id) if no_content is None else None
    title = run.name or run.prompt_name
    return page(request, "item.html", item=item, content=content, no_content=no_content, run_id=run_id, run_title=title)


@router.get("/runs/{run_id}/items/{video_id}/calls")
def calls_page(
    run_id: str,
    video_id: str,
    request: Request,
    caller: Reader,
    database: Db,
    storage: DataFolder,
    number: Number = 1,
    segment_id: SegmentId = None,
) -> Response:
    """Show the model calls of an item, or of one of its segments."""
    run, _ = _item_of_run(database, caller, run_id, video_id)
    calls = item_calls(_tables(storage, run), ItemQuery(run_id, video_id, number), segment_id)
    return page(request, "calls.html", calls=calls, run_id=run_id, run_title=run.name or run.prompt_name)


def _why_no_content(request: Request, video: Video | None, item: ShownItem) -> str | None:
    """Return why the bytes of an item cannot be shown; None if they can."""
    state = request.app.state
    if video is None:
        return (
            "The media of this item have been deleted." if item.media_type else "The media of this item were not read."
        )
    if location_of(video, state.config, trusts_local=state.trusts_local_files) is not None:
        return None
    if is_remote(video.media_uri):
        return "The item is at a remote address that this service may not read."
    if state.trusts_local_files:
        return "The file does not exist any more, or it has changed since the run."
    return (
        "This service may not read the file, or it has changed since the run. On its machine, promptreel open shows it."
    )


def _item_of_run(database: Database, caller: Principal, run_id: str, video_id: str) -> tuple[RunRecord, Video | None]:
    """Return a run of the caller, and an item of it; None if the item has been deleted or was not read."""
    with database.read() as session:
        run = owned_run(session, caller, run_id)
        if session.get(RunItem, (run_id, video_id)) is None:
            raise not_found("video", video_id)
        video: Any = session.get(Video, video_id)
    is_available = video is not None and video.account_id == run.account_id and video.deletion_id is None
    return run, video if is_available else None


def _tables(storage: Storage, run: RunRecord) -> RunTables:
    tables = readable_tables(storage, run.run_id)
    if tables is None:
        state = "has no results" if run.status in FINAL else "has not finished any segment yet"
        raise ApiError(404, "results_not_ready", f"Run {run.run_id} is {run.status} and {state}.")
    return tables
