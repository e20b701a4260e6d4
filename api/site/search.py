"""The page of search: by words and a picture, or by conditions on fields."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.models import RunRecord
from promptreel.api.routes.filter import Engine
from promptreel.api.routes.search import Search
from promptreel.api.routes.thumbnails import thumbnail_links
from promptreel.api.runs.store import owned_runs
from promptreel.api.search.filter_engine import FilterEngine
from promptreel.api.search.filter_search import SEARCHABLE, filter_page
from promptreel.api.search.filter_sql import FilterField, filter_fields
from promptreel.api.search.ranking import Warnings
from promptreel.api.search.scope import in_indexes
from promptreel.api.search.service import Answer, SearchService
from promptreel.api.site.found_hits import ShownHit, shown_hit
from promptreel.api.site.scopes import PageScope, page_scope
from promptreel.api.site.search_query import (
    CONDITIONS,
    OPERATOR_NAMES,
    SearchQuery,
    ShownCondition,
    filter_search,
    shown_conditions,
)
from promptreel.api.web.auth import Principal, Searcher
from promptreel.api.web.dependencies import Db
from promptreel.api.web.errors import ApiError
from promptreel.api.web.page import page
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.wire.search import ImageSearch, MultimodalSearch, TextSearch

router = APIRouter()

_MAX_HITS: Final = 60
_PROMPT_RUNS: Final = 20  # the newest runs, whose prompts say which fields the form offers

Text = Annotated[str, Query(max_length=5_000)]
Index = Annotated[str, Query(max_length=255)]
RunIds = Annotated[list[str] | None, Query(max_length=100)]
Parts = Annotated[list[str] | None, Query(max_length=CONDITIONS)]


@dataclass(frozen=True, slots=True)
class FoundHits:
    """The result of a search.

    Attributes:
        is_cut: there may be more hits, which are less similar.
        next_cursor: where the next page of hits of conditions starts; None on the last one.
    """

    hits: tuple[ShownHit, ...]
    warnings: tuple[str, ...]
    is_cut: bool = False
    next_cursor: str | None = None


@router.get("/search")
def search_page(
    request: Request,
    caller: Searcher,
    database: Db,
    search: Search,
    engine: Engine,
    q: Text = "",
    index: Index = "",
    run: RunIds = None,
    field: Parts = None,
    op: Parts = None,
    value: Parts = None,
    cursor: Annotated[str, Query(max_length=65_536)] = "",
) -> Response:
    """Search by words, or by conditions on fields, and show the hits as frames."""
    conditions = shown_conditions(field or (), op or (), value or ())
    query = SearchQuery(q.strip(), index, tuple(run or ()), conditions, cursor)
    with database.read() as session:
        scope = page_scope(session, caller, index, query.run_ids)
        fields = _known_fields(session, caller, scope)
        found, error = None, None
        try:
            if query.conditions:
                found = _by_conditions(session, request, engine, caller, query, scope, fields)
            elif query.text:
                found = _by_words_and_picture(request, search, caller, query, scope, None)
        except ApiError as problem:
            error = problem
    return _page(request, query, scope, fields, found, error)


@router.post("/search")
def search_by_picture(
    request: Request,
    caller: Searcher,
    database: Db,
    search: Search,
    picture: Annotated[UploadFile, File()],
    q: Annotated[str, Form(max_length=5_000)] = "",
    index: Annotated[str, Form(max_length=255)] = "",
    run: Annotated[list[str] | None, Form(max_length=100)] = None,
) -> Response:
    """Search by a picture, or by words and a picture. Changes nothing; the picture is not stored."""
    query = SearchQuery(q.strip(), index, tuple(run or ()))
    with database.read() as session:
        scope = page_scope(session, caller, index, query.run_ids)
        fields = _known_fields(session, caller, scope)
    found, error = None, None
    try:
        found = _by_words_and_picture(request, search, caller, query, scope, picture.file.read() or None)
    except ApiError as problem:
        error = problem
    return _page(request, query, scope, fields, found, error)


def _page(
    request: Request,
    query: SearchQuery,
    scope: PageScope,
    fields: Mapping[str, FilterField],
    found: FoundHits | None,
    error: ApiError | None,
) -> Response:
    empty = [ShownCondition()] * (CONDITIONS - len(query.conditions))
    return page(
        request,
        "search.html",
        status=200 if error is None else error.status,
        query=query,
        scope=scope,
        conditions=[*query.conditions, *empty],
        operators=OPERATOR_NAMES,
        fields=sorted(fields),
        found=found,
        error=error,
    )


def _by_words_and_picture(
    request: Request,
    search: SearchService,
    caller: Principal,
    query: SearchQuery,
    scope: PageScope,
    picture: bytes | None,
) -> FoundHits | None:
    """Search by what is given; None if it is nothing."""
    thumbnails = thumbnail_links(request, "")
    run_ids, encoded = list(scope.run_ids) or None, base64.b64encode(picture or b"").decode()
    answer: Answer
    if query.text and picture:
        both = MultimodalSearch(text_query=query.text, image_data=encoded, top_k=_MAX_HITS, run_ids=run_ids)
        answer = search.multimodal(caller, scope.locations, both, thumbnails)
    elif picture:
        answer = search.image(
            caller, scope.locations, ImageSearch(image_data=encoded, top_k=_MAX_HITS, run_ids=run_ids), thumbnails
        )
    elif query.text:
        text = TextSearch(query=query.text, top_k=_MAX_HITS, run_ids=run_ids)
        answer = search.text(caller, scope.locations, text, thumbnails)
    else:
        return None
    return FoundHits(tuple(map(shown_hit, answer.hits)), tuple(answer.warnings.texts), len(answer.hits) == _MAX_HITS)


def _by_conditions(
    session: Session,
    request: Request,
    engine: FilterEngine,
    caller: Principal,
    query: SearchQuery,
    scope: PageScope,
    fields: Mapping[str, FilterField],
) -> FoundHits:
    warnings = Warnings()
    body = filter_search(query, fields)
    thumbnails = thumbnail_links(request, "")
    found = filter_page(session, engine, caller, scope.locations, body, warnings, thumbnails)
    return FoundHits(
        tuple(map(shown_hit, found["results"])), tuple(warnings.texts), next_cursor=found["next_page_token"]
    )


def _known_fields(session: Session, caller: Principal, scope: PageScope) -> dict[str, FilterField]:
    """Return the fields of the prompts of the newest runs in a scope, by path."""
    runs: Sequence[Any]
    if scope.run_ids:
        runs = owned_runs(session, caller, scope.run_ids)
    else:
        mine = (RunRecord.account_id == caller.account_id, in_indexes(scope.locations))
        newest = select(RunRecord).where(*mine, RunRecord.status.in_(SEARCHABLE)).order_by(RunRecord.created_at.desc())
        runs = session.scalars(newest.limit(_PROMPT_RUNS)).all()
    fields: dict[str, FilterField] = {}
    for run in runs:
        fields = filter_fields(prompt_from_dict(run.prompt)) | fields
    return fields
