"""Sign in with an API key, and sign out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from promptreel.api.web.auth import KEY_PATTERN, AnyCaller, authenticate_hash, hash_key
from promptreel.api.web.errors import ApiError
from promptreel.api.web.navigation import permitted_links
from promptreel.api.web.page import SIGN_IN_PATH, local_path, page, see_other
from promptreel.api.web.session import end_session, start_form, start_session

router = APIRouter()


@router.get("/")
def home(caller: AnyCaller) -> RedirectResponse:
    """Lead to the first page that the key permits."""
    return see_other(permitted_links(caller)[0].path)


@router.get(SIGN_IN_PATH)
def sign_in_page(request: Request, next: str = "/") -> Response:
    """Show the form that signs in."""
    return _form(request, local_path(next), None)


@router.post(SIGN_IN_PATH)
def sign_in(request: Request, api_key: Annotated[str, Form()] = "", next: Annotated[str, Form()] = "/") -> Response:
    """Sign in with an API key."""
    key = api_key.strip()
    try:
        if not KEY_PATTERN.fullmatch(key):
            raise ApiError(401, "invalid_api_key", "An API key is `sk_live_` and 48 hexadecimal digits.")
        authenticate_hash(request, hash_key(key))
    except ApiError as error:
        return _form(request, local_path(next), error)
    response = see_other(local_path(next))
    start_session(request, response, hash_key(key))
    return response


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End the session of this browser."""
    response = see_other(SIGN_IN_PATH)
    end_session(request, response)
    return response


def _form(request: Request, target: str, error: ApiError | None) -> Response:
    cookies = Response()
    token = start_form(request, cookies)
    status = 200 if error is None else error.status
    response = page(request, "sign_in.html", status=status, target=target, error=error, form_token=token)
    response.raw_headers += [header for header in cookies.raw_headers if header[0] == b"set-cookie"]
    return response
