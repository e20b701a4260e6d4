"""Routes of exports: create, list, get, download."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import FileResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.models import Export
from promptreel.api.jobs.export_worker import ExportWorker
from promptreel.api.runs.exports import (
    DOWNLOAD_URL_LIFETIME_S,
    create_index_export,
    create_run_export,
    export_body,
    export_status,
    owned_export,
)
from promptreel.api.uploads.index_rows import owned_index
from promptreel.api.uploads.links import is_valid, link_token
from promptreel.api.web.auth import Reader, Writer, authorize
from promptreel.api.web.dependencies import Config, DataFolder, Db
from promptreel.api.web.errors import ApiError, conflict, not_found
from promptreel.api.web.idempotency import IdempotencyKey, KeyedRequest, answer_once
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.wire.exports import (
    CreateIndexExport,
    CreateRunExport,
    ExportBody,
    ExportCreated,
    ExportDownloadUrl,
)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run the export worker while the application runs, if this process executes runs."""
    if not app.state.config.supervise:
        yield
        return
    worker = ExportWorker(app.state.database, app.state.storage, app.state.config)
    worker.start()
    yield
    worker.stop()


router = APIRouter(prefix="/exports", tags=["exports"], lifespan=_lifespan, route_class=ApiRoute)


@router.post("/index/{index_id}", status_code=202, response_model=ExportCreated)
def export_index(
    index_id: str,
    caller: Writer,
    database: Db,
    request: Request,
    body: CreateIndexExport | None = None,
    key: IdempotencyKey = None,
) -> JsonResponse:
    """Export the results of all finished runs over an index, or of selected ones."""

    def create(session: Session) -> tuple[int, dict[str, Any]]:
        owned_index(session, caller, index_id)
        return 202, _created_body(create_index_export(session, caller, index_id, body))

    return answer_once(KeyedRequest(database, caller, "POST", request.url.path, key, _content(body)), create)


@router.post("/prompt-run/{run_id}", status_code=202, response_model=ExportCreated)
def export_run(
    run_id: str,
    caller: Writer,
    database: Db,
    request: Request,
    body: CreateRunExport | None = None,
    key: IdempotencyKey = None,
) -> JsonResponse:
    """Export the results of a finished run."""

    def create(session: Session) -> tuple[int, dict[str, Any]]:
        return 202, _created_body(create_run_export(session, caller, run_id, body))

    return answer_once(KeyedRequest(database, caller, "POST", request.url.path, key, _content(body)), create)


@router.get("", response_model=list[ExportBody])
def list_exports(caller: Reader, database: Db, limit: Annotated[int, Query(ge=1, le=100)] = 50) -> JsonResponse:
    """List the newest exports."""
    exports = select(Export).where(Export.account_id == caller.account_id)
    newest_first = exports.order_by(Export.created_at.desc(), Export.export_id.desc()).limit(limit)
    with database.read() as session:
        return JsonResponse([export_body(export) for export in session.scalars(newest_first)])


@router.get("/{export_id}", response_model=ExportBody)
def get_export(export_id: str, caller: Reader, database: Db) -> JsonResponse:
    """Get an export and its progress."""
    with database.read() as session:
        return JsonResponse(export_body(owned_export(session, caller, export_id)))


@router.post("/{export_id}/download-url", response_model=ExportDownloadUrl)
def get_download_url(export_id: str, caller: Reader, database: Db, config: Config, request: Request) -> JsonResponse:
    """Create a signed URL to download a finished export without an API key. Requires HTTPS."""
    with database.read() as session:
        export = owned_export(session, caller, export_id)
    base = config.public_url or str(request.base_url).rstrip("/")
    url = None
    if export.queue_status == "succeeded" and base.startswith("https://"):
        url = f"{base}/api/v2/exports/{export_id}/download?token={_token(request, export_id)}"
    body = {"export_id": export_id, "status": export_status(export), "destination_type": "download"}
    return JsonResponse({**body, "destination_connector_id": None, "download_url": url})


@router.get(
    "/{export_id}/download",
    response_class=FileResponse,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
def download_export(
    export_id: str,
    database: Db,
    storage: DataFolder,
    request: Request,
    token: Annotated[str | None, Query(max_length=2048)] = None,
) -> FileResponse:
    """Download the file of a finished export, with an API key or a signed URL."""
    caller = authorize(request, "read") if token is None else None
    with database.read() as session:
        if caller is not None:
            export: Export | None = owned_export(session, caller, export_id)
        else:
            _check_token(request, export_id, token or "")
            export = session.get(Export, export_id)
    if export is None:
        raise not_found("export", export_id)
    if export.queue_status != "succeeded" or export.file is None:
        message = "The export is not finished; wait until its status is completed."
        raise conflict("export_not_ready", message, status=export_status(export))
    try:
        path = storage.local_file(export.file)
    except FileNotFoundError as error:
        raise not_found("export", export_id) from error
    headers = {"Cache-Control": "no-store"}
    return FileResponse(path, media_type="application/json", filename=f"{export_id}.json", headers=headers)


def _created_body(export: Export) -> dict[str, Any]:
    return {"export_id": export.export_id, "status": export_status(export)}


def _content(body: CreateRunExport | None) -> Any:
    """Return the content that a repeated request is compared by. A missing body differs from an empty one."""
    return None if body is None else body.model_dump(mode="json", exclude_unset=True)


def _token(request: Request, export_id: str) -> str:
    expires = int(time.time()) + DOWNLOAD_URL_LIFETIME_S
    signature = link_token(request.app.state.link_secret, export_id, expires)
    claim = base64.urlsafe_b64encode(str(expires).encode()).decode().rstrip("=")
    return f"v1.{claim}.{signature}"


def _check_token(request: Request, export_id: str, token: str) -> None:
    invalid_link = ApiError(403, "link_expired", "This URL is invalid or has expired; request a new one.")
    version, _, rest = token.partition(".")
    claim, _, signature = rest.partition(".")
    try:
        expires = int(base64.urlsafe_b64decode(claim + "=" * (-len(claim) % 4)))
    except (binascii.Error, ValueError) as error:
        raise invalid_link from error
    if version != "v1" or not is_valid(request.app.state.link_secret, export_id, expires, signature):
        raise invalid_link
