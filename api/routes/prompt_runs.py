"""Routes of prompt runs: start, estimate, get, cancel, results, failures, retries."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session

from promptreel.api.db.models import RunItem, RunRecord, Video
from promptreel.api.routes.thumbnails import ThumbnailLinks
from promptreel.api.runs.body import run_body
from promptreel.api.runs.cancel import request_cancel
from promptreel.api.runs.estimates import estimate_request
from promptreel.api.runs.failures import failed_segments, failure_rows
from promptreel.api.runs.label_filter import LabelFilter
from promptreel.api.runs.results import llm_calls, results_page, video_result
from promptreel.api.runs.retries import (
    owned_retry,
    retry_body,
    start_retry,
    start_retry_of_failures,
)
from promptreel.api.runs.run_tables import readable_tables
from promptreel.api.runs.statuses import FINAL
from promptreel.api.runs.store import look_up_run, owned_run, runs_of, start_run_once
from promptreel.api.web.auth import Reader, Writer
from promptreel.api.web.dependencies import Config, DataFolder, Db
from promptreel.api.web.errors import ApiError, not_found
from promptreel.api.web.idempotency import IdempotencyKey, KeyedRequest, answer_once
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.pagination import DEFAULT_LIMIT, Cursor, Limit
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.wire.common import RunPage
from promptreel.schemas.wire.failed_segments import FailedSegments
from promptreel.schemas.wire.llm_calls import LlmCallBody
from promptreel.schemas.wire.prompt_runs import (
    ExecuteRun,
    PromptRunBody,
    RunEstimateBody,
    SegmentResult,
    SegmentRetry,
    VideoResult,
)
from promptreel.schemas.wire.retries import RetryFailures, RetrySegment

router = APIRouter(prefix="/prompt-runs", tags=["prompt-runs"], route_class=ApiRoute)


@router.post("/execute", status_code=202, response_model=PromptRunBody)
async def execute_run(
    body: ExecuteRun, caller: Writer, database: Db, config: Config, request: Request, key: IdempotencyKey = None
) -> JsonResponse:
    """Start a run. The request is validated, then the run is queued."""
    keyed = KeyedRequest(database, caller, "POST", request.url.path, key, body.model_dump(mode="json"))
    return await start_run_once(keyed, body, config)


@router.post("/estimate", response_model=RunEstimateBody)
def estimate_run(body: ExecuteRun, caller: Reader, database: Db, config: Config, storage: DataFolder) -> JsonResponse:
    """Estimate a run without starting it: items, segments, calls, tokens and reusable results."""
    return JsonResponse(estimate_request(database, storage, config, caller, body))


@router.get("", response_model=list[PromptRunBody])
def list_runs(
    caller: Reader, database: Db, labels: LabelFilter, limit: Annotated[int, Query(ge=1, le=200)] = 200
) -> JsonResponse:
    """List the newest runs."""
    with database.read() as session:
        return JsonResponse([run_body(run) for run in session.scalars(runs_of(caller, labels).limit(limit))])


@router.get("/{run_id}", response_model=PromptRunBody)
async def get_run(run_id: str, caller: Reader, database: Db) -> JsonResponse:
    """Get a run and its status."""
    return JsonResponse(run_body(await look_up_run(database, caller, run_id)))


@router.post("/{run_id}/cancel", response_model=PromptRunBody)
def cancel_run(run_id: str, caller: Writer, database: Db, request: Request, key: IdempotencyKey = None) -> JsonResponse:
    """Cancel a run: no new calls start, calls in progress finish, and finished results are saved."""

    def cancel(session: Session) -> tuple[int, dict[str, Any]]:
        return 200, run_body(request_cancel(session, caller, run_id))

    return answer_once(KeyedRequest(database, caller, "POST", request.url.path, key, None), cancel)


@router.get("/{run_id}/results", response_model=RunPage[SegmentResult])
def list_results(
    run_id: str,
    caller: Reader,
    database: Db,
    thumbnails: ThumbnailLinks,
    video_id: Annotated[str, Query(description="The media item whose segments to list.")],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> JsonResponse:
    """List the segments of a media item in a run, including failed ones, in order of time.

    While the run is in progress: the segments that are finished so far, with `is_complete` false; 409 before the first.
    """
    with database.read() as session:
        run = owned_run(session, caller, run_id)
        video = _video_of_run(session, run, video_id)
    return JsonResponse(results_page(thumbnails, run, video_id, video, limit, cursor))


@router.get("/{run_id}/videos/{video_id}/video-result", response_model=VideoResult)
def get_video_result(
    run_id: str, video_id: str, caller: Reader, database: Db, storage: DataFolder, thumbnails: ThumbnailLinks
) -> JsonResponse:
    """Get the synthesis of a media item in a run."""
    with database.read() as session:
        run = owned_run(session, caller, run_id)
        video = _video_of_run(session, run, video_id)
    found = video_result(readable_tables(storage, run_id), run, video_id, video, thumbnails)
    if found is None:
        raise _no_video_result(run, video_id)
    return JsonResponse(found)


@router.get("/{run_id}/failed-segments", response_model=FailedSegments)
def get_failed_segments(run_id: str, caller: Reader, database: Db, storage: DataFolder) -> JsonResponse:
    """List the failures of a run and whether they are retryable.

    Failures of a media item itself, e.g. of its synthesis, have one entry with the item's id as `segment_id`."""
    with database.read() as session:
        run = owned_run(session, caller, run_id)
        rows = failure_rows(session, run, readable_tables(storage, run_id))
    return JsonResponse(failed_segments(run, rows))


@router.get("/{run_id}/llm-calls", response_model=list[LlmCallBody])
def list_llm_calls(run_id: str, caller: Reader, database: Db, storage: DataFolder) -> JsonResponse:
    """List all model calls of a run."""
    with database.read() as session:
        run = owned_run(session, caller, run_id)
    return JsonResponse(llm_calls(storage, run))


@router.post("/{run_id}/videos/{video_id}/segments/{segment_id}/retry", status_code=202, response_model=SegmentRetry)
def retry_segment(
    run_id: str,
    video_id: str,
    segment_id: str,
    caller: Writer,
    database: Db,
    storage: DataFolder,
    request: Request,
    body: RetrySegment | None = None,
    key: IdempotencyKey = None,
) -> JsonResponse:
    """Retry the failed operations of one segment of a finished run, or of an item itself with its id as segment id."""

    def retry(session: Session) -> tuple[int, dict[str, Any]]:
        return 202, retry_body(start_retry(session, storage, caller, run_id, video_id, segment_id, key))

    return answer_once(KeyedRequest(database, caller, "POST", request.url.path, key, None), retry)


@router.get("/{run_id}/videos/{video_id}/segments/{segment_id}/retries/{retry_id}", response_model=SegmentRetry)
def get_segment_retry(
    run_id: str, video_id: str, segment_id: str, retry_id: str, caller: Reader, database: Db
) -> JsonResponse:
    """Get the status of a segment retry."""
    with database.read() as session:
        return JsonResponse(retry_body(owned_retry(session, caller, run_id, retry_id, video_id, segment_id)))


@router.post("/{run_id}/retry-failures", status_code=202, response_model=SegmentRetry)
def retry_failures(
    run_id: str,
    body: RetryFailures,
    caller: Writer,
    database: Db,
    storage: DataFolder,
    request: Request,
    key: IdempotencyKey = None,
) -> JsonResponse:
    """Retry the retryable failures of a finished run, optionally only those of selected operations, codes or items."""

    def retry(session: Session) -> tuple[int, dict[str, Any]]:
        return 202, retry_body(start_retry_of_failures(session, storage, caller, run_id, body, key))

    return answer_once(
        KeyedRequest(database, caller, "POST", request.url.path, key, body.model_dump(mode="json")), retry
    )


@router.get("/{run_id}/retries/{retry_id}", response_model=SegmentRetry)
def get_retry(run_id: str, retry_id: str, caller: Reader, database: Db) -> JsonResponse:
    """Get the status of a retry."""
    with database.read() as session:
        return JsonResponse(retry_body(owned_retry(session, caller, run_id, retry_id)))


def _no_video_result(run: RunRecord, video_id: str) -> ApiError:
    """Return a 404; its message tells whether the result can still appear."""
    error = not_found("video_result", video_id, "video")
    if run.status in FINAL:
        return error
    message = f"Run {run.run_id} is {run.status}; the result of {video_id} is not ready yet. Try again later."
    return ApiError(404, error.code, message, {"video_id": video_id, "status": run.status})


def _video_of_run(session: Session, run: RunRecord, video_id: str) -> Video | None:
    """Return an item of a run, also if it is marked as deleted. None if it was not read, or another account has it.

    Raises:
        ApiError: 404 if the item is not part of the run.
    """
    if session.get(RunItem, (run.run_id, video_id)) is None:
        raise not_found("video", video_id)
    video = session.get(Video, video_id)
    return video if video is not None and video.account_id == run.account_id else None
