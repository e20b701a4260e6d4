"""Protection of forms against requests that other sites make a browser send (CSRF)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request

from promptreel.api.web.errors import ApiError
from promptreel.api.web.session import TOKEN_FIELD, is_form_token

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


async def check_form(request: Request) -> None:
    """Check that a form was sent by a page of this service; a dependency of every page but the one
    of uploads, whose form is checked while its files arrive.

    Raises:
        ApiError: 403 if it was not.
    """
    if request.method in _SAFE_METHODS:
        return
    check_origin(request)
    check_token(request, await request.form())


def check_token(request: Request, fields: Mapping[str, object]) -> None:
    """Check the token among the fields of a form.

    Raises:
        ApiError: 403 if it is missing, or belongs to another session.
    """
    token = fields.get(TOKEN_FIELD)
    if not isinstance(token, str) or not is_form_token(request, token):
        raise _rejected("The form has expired, or you have signed in again since it was loaded; load the page again.")


def check_origin(request: Request) -> None:
    """Check what the browser says about the page that sent a form. It needs no body, so uploads are checked early.

    Raises:
        ApiError: 403 if the page belongs to another site.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_own = site in ("same-origin", "none")
    else:
        hosts = {request.url.netloc, urlsplit(request.app.state.config.public_url).netloc}
        is_own = origin is None or urlsplit(origin).netloc in hosts - {""}  # "null" has no host
    if not is_own:
        raise _rejected("This form was sent from another site; open the page of this service and send it there.")


def _rejected(message: str) -> ApiError:
    return ApiError(403, "form_rejected", message)
