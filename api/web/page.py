"""HTML responses: a template with what every page needs, and headers that confine it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse

from promptreel.api.web.navigation import NavigationLink, permitted_links
from promptreel.api.web.session import form_token
from promptreel.pages.templating import encode, render

SIGN_IN_PATH: Final = "/sign-in"

# Nothing from other hosts, no inline scripts or styles, and no page in a frame.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
PAGE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class SiteContext:
    """What the layout of every page shows.

    Attributes:
        path: of the request.
        links: the pages that the key permits; empty without a session.
        form_token: value of the field `form_token` of every form.
    """

    path: str
    links: tuple[NavigationLink, ...]
    form_token: str


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template in `site/` as a response."""
    caller = getattr(request.state, "caller", None)
    site = SiteContext(request.url.path, permitted_links(caller), values.pop("form_token", None) or form_token(request))
    html = render(f"site/{template}", site=site, **values)
    return HTMLResponse(encode(html), status_code=status, headers=dict(PAGE_HEADERS))


def see_other(path: str) -> RedirectResponse:
    """Redirect a browser to a page of this service, after a form."""
    return RedirectResponse(path, status_code=303, headers={"Cache-Control": "no-store"})


def sign_in_first(request: Request) -> RedirectResponse:
    """Redirect to the form that signs in, which returns to the requested page."""
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return see_other(f"{SIGN_IN_PATH}?next={quote(target if request.method == 'GET' else '/', safe='')}")


def local_path(target: str) -> str:
    """Return a path of this service to redirect to; `/` for anything that could lead elsewhere.

    >>> local_path("/runs?page=2"), local_path("//evil.example"), local_path("https://evil.example")
    ('/runs?page=2', '/', '/')
    """
    is_local = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_local and "\\" not in target else "/"
