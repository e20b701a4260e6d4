"""The pages of indexes: the list, the media and runs of one, and its deletion."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError

from promptreel.api.db.engine import Database
from promptreel.api.routes.thumbnails import thumbnail_links
from promptreel.api.site.form_problems import FormProblem, invalid_values
from promptreel.api.site.index_list import MediaQuery, index_list, listed_index, media_page
from promptreel.api.site.links import index_path
from promptreel.api.site.run_list import RunQuery, run_list
from promptreel.api.site.scopes import PLAYGROUND_NAME
from promptreel.api.uploads.index_rows import add_index, owned_index
from promptreel.api.uploads.media_rows import delete_index_of
from promptreel.api.web.auth import Admin, Principal, Reader, Writer
from promptreel.api.web.dependencies import DataFolder, Db
from promptreel.api.web.page import page, see_other
from promptreel.schemas.wire.indexes import CreateIndex

router = APIRouter()

_MAX_RUNS: Final = 10


@router.get("/indexes")
def indexes_page(request: Request, caller: Reader, database: Db) -> Response:
    """Show the indexes of the account, newest first, and the playground."""
    return _list_page(request, caller, database)


@router.post("/indexes")
def create_index(
    request: Request,
    caller: Writer,
    database: Db,
    name: Annotated[str, Form()] = "",
    description: Annotated[str, Form()] = "",
) -> Response:
    """Create an index."""
    entered = {"name": name.strip(), "description": description.strip() or None}
    try:
        body = CreateIndex.model_validate(entered)
    except ValidationError as error:
        return _list_page(request, caller, database, entered, invalid_values(error))
    with database.write() as session:
        index_id = add_index(session, caller, body).index_id
    return see_other(index_path(index_id))


@router.get("/indexes/{index}")
def index_page(
    index: str,
    request: Request,
    caller: Reader,
    database: Db,
    q: Annotated[str, Query(max_length=255)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:
    """Show the media and the runs of an index, or of the playground."""
    with database.read() as session:
        found = listed_index(session, caller, index)
        media = media_page(session, caller, MediaQuery(index, q, number), thumbnail_links(request, ""))
        runs = run_list(session, caller, RunQuery(index=index))
    return page(
        request,
        "index.html",
        index=found,
        media=media,
        runs=runs,
        max_runs=_MAX_RUNS,
        can_write=caller.has_scope("write"),
        can_delete=caller.has_scope("admin") and index != PLAYGROUND_NAME,
    )


@router.get("/indexes/{index_id}/delete")
def delete_index_page(index_id: str, request: Request, caller: Admin, database: Db) -> Response:
    """Show what the deletion of an index removes, and the form that confirms it."""
    with database.read() as session:
        owned_index(session, caller, index_id)
        found = listed_index(session, caller, index_id)
    return page(request, "index_delete.html", index=found)


@router.post("/indexes/{index_id}/delete")
def delete_index(index_id: str, caller: Admin, database: Db, storage: DataFolder) -> Response:
    """Delete an index and its media."""
    delete_index_of(database, storage, caller, index_id)
    return see_other("/indexes")


def _list_page(
    request: Request,
    caller: Principal,
    database: Database,
    entered: dict[str, Any] | None = None,
    problems: tuple[FormProblem, ...] = (),
) -> Response:
    with database.read() as session:
        indexes = index_list(session, caller)
    return page(
        request,
        "indexes.html",
        status=422 if problems else 200,
        indexes=indexes,
        entered=entered or {"name": "", "description": None},
        problems=problems,
        can_write=caller.has_scope("write"),
    )
