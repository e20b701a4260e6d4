"""Routes of search by text, image or both, and across runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request

from promptreel.api.routes.thumbnails import ThumbnailLinks
from promptreel.api.search.scope import PLAYGROUND
from promptreel.api.search.service import Answer, SearchService
from promptreel.api.search.warm_up import WarmUp
from promptreel.api.web.auth import Searcher
from promptreel.api.web.dependencies import part_of
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.settings import RunSettings
from promptreel.schemas.wire.search import (
    ImageResultBody,
    ImageSearch,
    MultimodalResultBody,
    MultimodalSearch,
    MultiRunSearch,
    PlaygroundSearch,
    SearchResultBody,
    TextSearch,
)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load models and build search indexes in the background while the application runs."""
    library, warm_up = _search_of(app).library, WarmUp(RunSettings())
    warm_up.start()
    library.start()
    yield
    library.stop()
    warm_up.stop()


router = APIRouter(tags=["search"], lifespan=_lifespan, route_class=ApiRoute)


def _search_of(app: FastAPI) -> SearchService:
    return part_of(app, "search", lambda: SearchService(app.state.database, app.state.storage))


async def _search(request: Request) -> SearchService:
    return _search_of(request.app)


Search = Annotated[SearchService, Depends(_search)]


@router.post("/indexes/{index_id}/search", response_model=list[SearchResultBody])
def search_by_text(
    index_id: str, body: TextSearch, caller: Searcher, search: Search, thumbnails: ThumbnailLinks
) -> JsonResponse:
    """Search segments and media items by text, best first. The X-Search-Warning header lists what was skipped."""
    return _response(search.text(caller, body.index_ids or [index_id], body, thumbnails))


@router.post("/indexes/{index_id}/image-search", response_model=list[ImageResultBody])
def search_by_image(
    index_id: str, body: ImageSearch, caller: Searcher, search: Search, thumbnails: ThumbnailLinks
) -> JsonResponse:
    """Search segments by image similarity of their frames, best first."""
    return _response(search.image(caller, body.index_ids or [index_id], body, thumbnails))


@router.post("/indexes/{index_id}/multimodal-search", response_model=list[MultimodalResultBody])
def search_by_text_and_image(
    index_id: str, body: MultimodalSearch, caller: Searcher, search: Search, thumbnails: ThumbnailLinks
) -> JsonResponse:
    """Search segments by text and image, combining both rankings by reciprocal rank fusion."""
    return _response(search.multimodal(caller, body.index_ids or [index_id], body, thumbnails))


@router.post("/search/multi-run", response_model=list[SearchResultBody])
def search_several_runs(
    body: MultiRunSearch, caller: Searcher, search: Search, thumbnails: ThumbnailLinks
) -> JsonResponse:
    """Search several runs by text, with `top_k` results per run."""
    return _response(search.multi_run(caller, body, thumbnails))


@router.post("/playground/search", response_model=list[SearchResultBody])
def search_playground(
    body: PlaygroundSearch,
    caller: Searcher,
    search: Search,
    thumbnails: ThumbnailLinks,
    run_id: Annotated[str | None, Query(min_length=1, max_length=255)] = None,
) -> JsonResponse:
    """Search segments and media items of the playground by text, optionally in one run."""
    text_search = TextSearch(query=body.query, top_k=body.top_k, run_ids=[run_id] if run_id is not None else None)
    return _response(search.text(caller, [PLAYGROUND], text_search, thumbnails))


def _response(answer: Answer) -> JsonResponse:
    return JsonResponse(answer.hits, headers=dict(answer.warnings.headers()))
