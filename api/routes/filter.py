"""Filter search: segments whose fields meet conditions."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from api.auth import Searcher
from api.filter_search import FilterEngine, filter_page
from api.json_response import JsonResponse
from api.services import DataFolder, Db
from schemas.wire.filter import FilterPage, FilterSearch

router = APIRouter(prefix="/search/filter", tags=["search"])


def _engine(request: Request) -> FilterEngine:
    """The engine of this process, made when it is first asked for."""
    state: Any = request.app.state
    if not hasattr(state, "filter_engine"):
        state.filter_engine = FilterEngine()
    return state.filter_engine  # type: ignore[no-any-return]


Engine = Annotated[FilterEngine, Depends(_engine)]


@router.post("/playground", response_model=FilterPage)
def filter_playground(
    body: FilterSearch, caller: Searcher, database: Db, storage: DataFolder, engine: Engine
) -> JsonResponse:
    """Finds segments of media that lies in no index."""
    with database.read() as session:
        return JsonResponse(filter_page(session, storage, engine, caller, None, body))


@router.post("/{index_id}", response_model=FilterPage)
def filter_index(
    index_id: str, body: FilterSearch, caller: Searcher, database: Db, storage: DataFolder, engine: Engine
) -> JsonResponse:
    """Finds segments of an index whose fields meet all conditions, and groups of them where the request has any."""
    with database.read() as session:
        return JsonResponse(filter_page(session, storage, engine, caller, index_id, body))
