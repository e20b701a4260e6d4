"""Routes of indexes: create, list, get, delete."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import select

from promptreel.api.db.clock import required_time
from promptreel.api.db.models import MediaIndex
from promptreel.api.routes.thumbnails import ThumbnailLinks
from promptreel.api.runs.label_filter import LabelFilter
from promptreel.api.runs.media_status import add_processing_status
from promptreel.api.runs.store import runs_page
from promptreel.api.runs.thumbnails import add_item_thumbnails
from promptreel.api.uploads.index_rows import add_index, owned_index
from promptreel.api.uploads.media_rows import delete_index_of, videos_page
from promptreel.api.web.auth import Admin, Reader, Searcher, Writer
from promptreel.api.web.dependencies import DataFolder, Db
from promptreel.api.web.errors import not_found
from promptreel.api.web.idempotency import IdempotencyKey, KeyedRequest, answer_once
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.pagination import DEFAULT_LIMIT, Cursor, Limit
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.wire.common import DeletionStatus, Page
from promptreel.schemas.wire.indexes import CreateIndex, IndexBody
from promptreel.schemas.wire.prompt_runs import PromptRunBody
from promptreel.schemas.wire.videos import VideoBody

router = APIRouter(prefix="/indexes", tags=["indexes"], route_class=ApiRoute)


@router.post("", status_code=201, response_model=IndexBody)
def create_index(
    body: CreateIndex, caller: Writer, database: Db, request: Request, key: IdempotencyKey = None
) -> JsonResponse:
    """Create an index."""
    keyed = KeyedRequest(database, caller, "POST", request.url.path, key, body.model_dump(mode="json"))
    return answer_once(keyed, lambda session: (201, index_body(add_index(session, caller, body))))


@router.get("", response_model=list[IndexBody])
def list_indexes(caller: Searcher, database: Db, include_defaults: bool = True) -> JsonResponse:
    """List indexes, oldest first."""
    with database.read() as session:
        indexes = select(MediaIndex).where(MediaIndex.account_id == caller.account_id, MediaIndex.deletion_id.is_(None))
        records = session.scalars(indexes.order_by(MediaIndex.created_at, MediaIndex.index_id)).all()
        return JsonResponse([index_body(record) for record in records])


@router.get("/{index_id}", response_model=IndexBody)
def get_index(index_id: str, caller: Searcher, database: Db) -> JsonResponse:
    """Get an index."""
    with database.read() as session:
        return JsonResponse(index_body(owned_index(session, caller, index_id)))


@router.get("/{index_id}/videos", response_model=Page[VideoBody])
def list_index_videos(
    index_id: str,
    caller: Reader,
    database: Db,
    storage: DataFolder,
    thumbnails: ThumbnailLinks,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> JsonResponse:
    """List the media items of an index, newest first, each with the status of its latest runs."""
    with database.read() as session:
        owned_index(session, caller, index_id)
        page = videos_page(session, caller, index_id, limit, cursor)
        add_processing_status(session, storage, caller.account_id, page["data"])
    add_item_thumbnails(thumbnails, page["data"])
    return JsonResponse(page)


@router.get("/{index_id}/prompt-runs", response_model=Page[PromptRunBody])
def list_index_runs(
    index_id: str,
    caller: Reader,
    database: Db,
    labels: LabelFilter,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> JsonResponse:
    """List the runs over an index or its media items, newest first."""
    with database.read() as session:
        owned_index(session, caller, index_id)
        return JsonResponse(runs_page(session, caller, index_id, limit, cursor, labels))


@router.delete("/{index_id}", response_model=DeletionStatus)
def delete_index(index_id: str, caller: Admin, database: Db, storage: DataFolder) -> JsonResponse:
    """Delete an index and its media items, not the tables of runs. Repeat the request to finish a partial deletion."""
    record = delete_index_of(database, storage, caller, index_id)
    return JsonResponse(_deletion(record))


@router.get("/{index_id}/deletion", response_model=DeletionStatus)
def index_deletion(index_id: str, caller: Reader, database: Db) -> JsonResponse:
    """Get the status of the deletion of an index."""
    with database.read() as session:
        record = owned_index(session, caller, index_id, deleted_too=True)
        if record.deletion_id is None:
            raise not_found("deletion", index_id, "index")
        return JsonResponse(_deletion(record))


def index_body(record: MediaIndex) -> dict[str, Any]:
    """Render an index as JSON values."""
    return {
        "index_id": record.index_id,
        "name": record.name,
        "user_id": record.account_id,
        "created_at": required_time(record.created_at),
        "is_default": False,
        "description": record.description,
        "sort_order": None,
    }


def _deletion(record: MediaIndex) -> dict[str, Any]:
    return {
        "index_id": record.index_id,
        "video_id": None,
        "deletion_id": record.deletion_id,
        "status": "deleted",
        "retry_after_seconds": None,
        "message": f"Index {record.index_id} and its media are deleted; the tables of runs are not.",
    }
