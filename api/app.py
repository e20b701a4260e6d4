"""The application: routes, errors, middleware, and the lifespan of its background jobs."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from anyio import CapacityLimiter
from fastapi import FastAPI

from promptreel.api.config import ApiConfig
from promptreel.api.db.engine import Database
from promptreel.api.db.migrate import migrate
from promptreel.api.jobs.local_runs import LocalRuns
from promptreel.api.jobs.supervisor import Supervisor
from promptreel.api.jobs.worker_loop import WorkerLoop
from promptreel.api.routes import (
    api_keys,
    diff,
    events,
    exports,
    filter,
    import_jobs,
    indexes,
    playground,
    prompt_runs,
    prompts,
    search,
    service,
    sql,
    thumbnails,
    videos,
)
from promptreel.api.site.router import site_router
from promptreel.api.uploads.links import link_secret
from promptreel.api.web.auth import KnownKeys
from promptreel.api.web.body_limit import BodyLimit
from promptreel.api.web.errors import install_error_handlers
from promptreel.api.web.middleware import Metrics, RequestMiddleware
from promptreel.api.web.openapi import describe
from promptreel.api.web.paths import API_PREFIX
from promptreel.api.web.rate_limit import RateLimiter
from promptreel.api.web.session import SESSION_COOKIE
from promptreel.providers.weights import package_version
from promptreel.schemas.wire.common import ErrorResponse
from promptreel.tables.private_files import restrict_private_files
from promptreel.tables.storage import open_storage

PREFIX = API_PREFIX
_MAX_FETCHES: Final = 8  # concurrent downloads of remote media; others wait without a thread

_ERRORS = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in (
        (400, "The body is not JSON, or the request is malformed."),
        (401, "The API key is missing or invalid."),
        (403, "The key does not have the required scope."),
        (404, "The resource does not exist or belongs to another account."),
        (409, "The request conflicts with the state of the resource or with an earlier request of the same key."),
        (413, "The body or a file exceeds its limit."),
        (422, "The request is well formed but cannot be processed."),
        (429, "Too many requests; retry after the seconds in Retry-After."),
        (503, "The service is unavailable; retry after the seconds in Retry-After."),
    )
}

_ROUTERS: Final = (
    prompt_runs.router,
    prompts.router,
    indexes.router,
    videos.router,
    thumbnails.router,
    import_jobs.router,
    playground.router,
    filter.router,
    search.router,
    sql.router,
    diff.router,
    exports.router,
    api_keys.router,
    events.router,
    service.router,
)


def create_app(config: ApiConfig) -> FastAPI:
    """Create the application; migrate its database first."""
    storage = open_storage(config.data_dir)
    database = Database(config.sqlalchemy_url)
    migrate(database)
    metrics = Metrics()
    supervisor = Supervisor(database, storage, config, metrics) if config.supervise else None
    jobs: list[WorkerLoop] = [] if supervisor is None else [supervisor, LocalRuns(database, storage, config)]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for job in jobs:
            job.start()
        yield
        app.state.stopping.set()
        for job in jobs:
            job.stop()
        database.close()

    app = FastAPI(
        title="promptreel",
        version=package_version("promptreel") or "0.0.0",
        summary="Run one prompt over many videos, audio files and images, and get open tables.",
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # the page /docs is the reference; FastAPI's would load scripts from another host
        redoc_url=None,
        responses=_ERRORS,  # type: ignore[arg-type]
    )
    app.state.config = config
    app.state.database = database
    app.state.storage = storage
    app.state.metrics = metrics
    app.state.known_keys = KnownKeys()
    app.state.supervisor = supervisor
    app.state.rate_limiter = RateLimiter(config.rate_limits)
    restrict_private_files(storage)
    app.state.link_secret = link_secret(storage)
    app.state.session_cookie = SESSION_COOKIE
    app.state.trusts_local_files = False
    app.state.fetches = CapacityLimiter(_MAX_FETCHES)
    app.state.stopping = threading.Event()
    install_error_handlers(app)
    for router in _ROUTERS:
        app.include_router(router, prefix=PREFIX)
    app.include_router(service.health_router)
    app.include_router(site_router)
    app.add_middleware(BodyLimit, max_upload_bytes=config.max_upload_bytes, prefix=PREFIX)
    app.add_middleware(RequestMiddleware, metrics=metrics)
    describe(app, PREFIX)
    return app
