"""The link of `promptreel open`: it signs one browser in, and leads to a page. Other services do not have this route."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse

from promptreel.api.web.errors import ApiError
from promptreel.api.web.one_time_link import OneTimeLink
from promptreel.api.web.page import see_other
from promptreel.api.web.session import start_session

OPEN_PATH = "/open"

router = APIRouter(include_in_schema=False)


@router.get(f"{OPEN_PATH}/{{token}}")
def follow_link(token: str, request: Request) -> RedirectResponse:
    """Sign this browser in.

    Raises:
        ApiError: 403 if the link is wrong, used or too old.
    """
    link: OneTimeLink = request.app.state.sign_in_link
    if not link.use(token):
        raise ApiError(403, "link_expired", "This link was used before or is too old; run promptreel open again.")
    response = see_other(link.target)
    start_session(request, response, link.key_hash)
    return response
