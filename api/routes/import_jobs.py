"""Routes of import jobs. Each media item has one finished job."""

from __future__ import annotations

from fastapi import APIRouter

from promptreel.api.uploads.import_jobs import import_job_body, import_outputs_body, owned_job
from promptreel.api.web.auth import Reader
from promptreel.api.web.dependencies import Db
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.wire.videos import ImportOutputs, RegisteredVideo

router = APIRouter(prefix="/import-jobs", tags=["videos"], route_class=ApiRoute)


@router.get("/{job_id}", response_model=RegisteredVideo)
def get_import_job(job_id: str, caller: Reader, database: Db) -> JsonResponse:
    """Get the finished import job of an upload or registration."""
    with database.read() as session:
        return JsonResponse(import_job_body(owned_job(session, caller, job_id)))


@router.get("/{job_id}/outputs", response_model=ImportOutputs)
def get_import_outputs(job_id: str, caller: Reader, database: Db) -> JsonResponse:
    """Get the output of an import job: one media item."""
    with database.read() as session:
        return JsonResponse(import_outputs_body(owned_job(session, caller, job_id)))
