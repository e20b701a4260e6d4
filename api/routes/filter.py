"""Routes of filter search."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request

from promptreel.api.db.engine import Database
from promptreel.api.routes.thumbnails import ThumbnailLinks
from promptreel.api.runs.thumbnails import Thumbnails
from promptreel.api.search.filter_engine import FilterEngine
from promptreel.api.search.filter_search import filter_page
from promptreel.api.search.ranking import Warnings
from promptreel.api.uploads.index_rows import check_indexes
from promptreel.api.web.auth import Principal, Searcher
from promptreel.api.web.dependencies import Db, part_of
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.wire.filter import FilterPage, FilterSearch


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Close the engine when the application stops."""
    yield
    _engine_of(app).close()


router = APIRouter(prefix="/search/filter", tags=["search"], lifespan=_lifespan, route_class=ApiRoute)


def _engine_of(app: FastAPI) -> FilterEngine:
    return part_of(app, "filter_engine", FilterEngine)


async def _engine(request: Request) -> FilterEngine:
    return _engine_of(request.app)


Engine = Annotated[FilterEngine, Depends(_engine)]


@router.post("/playground", response_model=FilterPage)
def filter_playground(
    body: FilterSearch, caller: Searcher, database: Db, thumbnails: ThumbnailLinks, engine: Engine
) -> JsonResponse:
    """Filter the segments of the playground by conditions on their fields, optionally grouped."""
    return _page(database, thumbnails, engine, caller, None, body)


@router.post("/{index_id}", response_model=FilterPage)
def filter_index(
    index_id: str, body: FilterSearch, caller: Searcher, database: Db, thumbnails: ThumbnailLinks, engine: Engine
) -> JsonResponse:
    """Filter the segments of an index by conditions on their fields, optionally grouped."""
    return _page(database, thumbnails, engine, caller, index_id, body)


def _page(
    database: Database,
    thumbnails: Thumbnails,
    engine: FilterEngine,
    caller: Principal,
    index_id: str | None,
    body: FilterSearch,
) -> JsonResponse:
    warnings = Warnings()
    with database.read() as session:
        check_indexes(session, caller, [index_id])
        index_ids = list(dict.fromkeys(body.index_ids)) if body.index_ids else [index_id]
        page = filter_page(session, engine, caller, index_ids, body, warnings, thumbnails)
    return JsonResponse(page, headers=dict(warnings.headers()))
