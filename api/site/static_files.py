"""Stylesheets and scripts of the pages."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from promptreel.api.web.errors import ApiError
from promptreel.pages.templating import STATIC

router = APIRouter()

_TYPES: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_HEADERS: Final = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


@router.get("/static/{name}")
def static_file(name: str) -> Response:
    """Serve a file of `pages/static`; its URL changes with its content."""
    known = {path.name: path for path in STATIC.iterdir() if path.suffix in _TYPES}
    if name not in known:
        raise ApiError(404, "endpoint_not_supported", name)
    path = known[name]
    return Response(path.read_bytes(), headers={**_HEADERS, "Content-Type": _TYPES[path.suffix]})
