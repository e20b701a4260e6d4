"""The pages of API keys: the list, the form that creates one and shows its secret once, and revoking one."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import ValidationError

from promptreel.api.db.engine import Database
from promptreel.api.routes.api_keys import key_bodies, key_body, new_key, owned_key, revoke_key
from promptreel.api.site.form_problems import FormProblem, invalid_values
from promptreel.api.site.key_list import shown_key
from promptreel.api.web.auth import SCOPES, Admin, Principal
from promptreel.api.web.dependencies import Db
from promptreel.api.web.page import SIGN_IN_PATH, page, see_other
from promptreel.api.web.session import end_session
from promptreel.schemas.wire.accounts import CreateApiKey

router = APIRouter()

_EMPTY: Final[dict[str, Any]] = {"name": "", "scopes": ["read"], "expires_in_days": ""}


@router.get("/keys")
def keys_page(request: Request, caller: Admin, database: Db) -> Response:
    """Show the keys of the account, newest first."""
    return _page(request, caller, database)


@router.post("/keys")
def create_api_key(
    request: Request,
    caller: Admin,
    database: Db,
    name: Annotated[str, Form()] = "",
    scope: Annotated[str, Form()] = "",
    expires_in_days: Annotated[str, Form()] = "",
) -> Response:
    """Create a key. Its secret is only in this response, which no cache may store, so it is no redirect."""
    entered = {"name": name.strip(), "scopes": [scope], "expires_in_days": expires_in_days.strip()}
    try:
        body = CreateApiKey.model_validate({**entered, "expires_in_days": entered["expires_in_days"] or None})
    except ValidationError as error:
        return _page(request, caller, database, entered, invalid_values(error))
    return _page(request, caller, database, created=new_key(database, caller, body))


@router.get("/keys/{key_id}/revoke")
def revoke_page(key_id: str, request: Request, caller: Admin, database: Db) -> Response:
    """Show the form that confirms that a key is revoked."""
    with database.read() as session:
        key = key_body(owned_key(session, caller, key_id))
        is_last = not any(
            body["is_active"] and body["key_id"] != key_id and "admin" in body["scopes"]
            for body in key_bodies(session, caller)
        )
    return page(request, "key_revoke.html", key=shown_key(key, caller), is_last=is_last)


@router.post("/keys/{key_id}/revoke")
def revoke(key_id: str, request: Request, caller: Admin, database: Db) -> Response:
    """Revoke a key. Revoking the key of this session signs out."""
    revoke_key(request, database, caller, key_id)
    if key_id != caller.key_id:
        return see_other(f"/keys#{quote(key_id, safe='')}")
    response = see_other(SIGN_IN_PATH)
    end_session(request, response)
    return response


def _page(
    request: Request,
    caller: Principal,
    database: Database,
    entered: dict[str, Any] | None = None,
    problems: tuple[FormProblem, ...] = (),
    created: dict[str, Any] | None = None,
) -> Response:
    with database.read() as session:
        keys = [shown_key(body, caller) for body in key_bodies(session, caller)]
    return page(
        request,
        "keys.html",
        status=422 if problems else 200 if created is None else 201,
        keys=keys,
        scopes=SCOPES,
        entered=entered or _EMPTY,
        problems=problems,
        created=created,
    )
