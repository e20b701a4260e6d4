"""Reject request bodies that are too large, or sent without a key, before they are read.

FastAPI reads a body before it authenticates the client, so any client could fill the disk or the memory. Large bodies
need a valid key with the required scope.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request
from starlette.exceptions import HTTPException

from promptreel.api.web.auth import api_key_of, check_scope, identify
from promptreel.api.web.errors import (
    DATABASE_ERRORS,
    ApiError,
    database_unavailable,
    error_response,
)
from promptreel.api.web.forms import check_origin
from promptreel.api.web.middleware import Receive, Scope, Send
from promptreel.api.web.paths import is_page

UPLOAD_PATH: Final = "/videos/upload"
UPLOAD_PAGE: Final = "/upload"
SEARCH_PAGE: Final = "/search"  # its form contains a picture
PICTURE_PATHS: Final = ("/image-search", "/multimodal-search")  # their JSON contains a base64 image
MAX_JSON_BYTES: Final = 1 << 20
MAX_PICTURE_JSON_BYTES: Final = 16 << 20
_MAX_FORM_BYTES: Final = 1 << 20  # of an upload without its file


class BodyLimit:
    """Middleware that limits bodies to `max_upload_bytes` (uploads), `MAX_PICTURE_JSON_BYTES` (image searches) or
    `MAX_JSON_BYTES` (all others). Every POST and PUT below `prefix` needs a key."""

    def __init__(self, app: Any, max_upload_bytes: int, prefix: str) -> None:
        self._app = app
        self._max_upload_bytes = max_upload_bytes
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        limit, required_scope = self._limit_of(scope)
        try:
            if is_page(scope["path"]):
                check_origin(request)
            if required_scope is not None:
                check_scope(await identify(request), required_scope)
            elif scope["method"] in ("POST", "PUT") and scope["path"].startswith(f"{self._prefix}/"):
                api_key_of(request)
            declared = request.headers.get("content-length", "")
            if declared.isdigit() and int(declared) > limit:
                raise too_large(limit)
        except ApiError as error:
            await error_response(request, error)(scope, receive, send)
            return
        except DATABASE_ERRORS as error:
            await error_response(request, database_unavailable(error))(scope, receive, send)
            return
        received = 0

        async def receive_within_limit() -> Any:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, too_large(limit).message)
            return message

        await self._app(scope, receive_within_limit, send)

    def _limit_of(self, scope: Scope) -> tuple[int, str | None]:
        """Return the maximum body size in bytes, and the scope to check before reading it."""
        if scope["method"] == "POST" and (scope["path"].endswith(UPLOAD_PATH) or scope["path"] == UPLOAD_PAGE):
            return self._max_upload_bytes + _MAX_FORM_BYTES, "write"
        if scope["method"] == "POST" and (scope["path"].endswith(PICTURE_PATHS) or scope["path"] == SEARCH_PAGE):
            return MAX_PICTURE_JSON_BYTES, "search"
        return MAX_JSON_BYTES, None


def too_large(limit: int) -> ApiError:
    """Return a 413 for a body that exceeds its limit."""
    return ApiError(413, "media_too_large", f"The body exceeds {limit} bytes.", {"max_bytes": limit})
