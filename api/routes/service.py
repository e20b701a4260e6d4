"""Routes of the service itself: key validation, rate limits, health, readiness, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text

from promptreel.api.web.auth import AnyCaller, Principal
from promptreel.api.web.dependencies import DataFolder, Db
from promptreel.api.web.errors import ApiError
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.wire.accounts import RateStatus, Ready

router = APIRouter(tags=["service"], route_class=ApiRoute)
health_router = APIRouter(tags=["service"])


@router.get("/auth/validate", status_code=204, response_class=Response)
async def validate_key(caller: AnyCaller) -> Response:
    """Validate the API key: 204 if valid, otherwise 401."""
    return Response(status_code=204)


@router.post("/auth/processing-activity", response_model=Ready)
async def processing_activity(caller: AnyCaller) -> JsonResponse:
    """Announce client activity. This has no effect."""
    return JsonResponse({"ready": True})


@router.get("/rate-limit/status", response_model=RateStatus)
async def rate_limit_status(caller: AnyCaller, request: Request) -> JsonResponse:
    """Get the caller's rate limit usage."""
    return JsonResponse(_rates(request, caller))


@router.post("/rate-limit/refresh", response_model=RateStatus)
async def rate_limit_refresh(caller: AnyCaller, request: Request) -> JsonResponse:
    """Get the caller's rate limit usage. It is always up to date."""
    return JsonResponse(_rates(request, caller))


@router.get("/docs", include_in_schema=False)
async def reference() -> RedirectResponse:
    """Lead to the page with the reference of the API."""
    return RedirectResponse("/docs", status_code=303)


@health_router.get("/healthz", include_in_schema=False)
async def healthz() -> JsonResponse:
    """Check liveness: the process responds."""
    return JsonResponse({"status": "ok"})


@health_router.get("/readyz", include_in_schema=False)
def readyz(database: Db, storage: DataFolder) -> JsonResponse:
    """Check readiness: the database responds and the data folder can be listed."""
    try:
        with database.read() as session:
            session.execute(text("SELECT 1"))
        storage.list_names("")
    except Exception as error:
        raise ApiError(503, "not_ready", f"{type(error).__name__}: {error}", None, 5) from error
    return JsonResponse({"status": "ready"})


@health_router.get("/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """Get Prometheus metrics."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _rates(request: Request, caller: Principal) -> dict[str, object]:
    categories = request.app.state.rate_limiter.status(caller.account_id)
    return {"user_id": caller.account_id, "plan_id": "self_hosted", "categories": categories}
