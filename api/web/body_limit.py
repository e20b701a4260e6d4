"""Reject bodies before they are read: those over a limit, and those of clients without a key.

Frameworks read a body before they check who sends it; without this, any client could fill a disk or the memory. Only
clients that may send large bodies can.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request
from starlette.exceptions import HTTPException

from promptreel.api.web.auth import check_scope, identify, shown_key
from promptreel.api.web.errors import (
    DATABASE_ERRORS,
    ApiError,
    database_unavailable,
    error_response,
)
from promptreel.api.web.middleware import Receive, Scope, Send

UPLOAD_PATH: Final = "/videos/upload"
PICTURE_PATHS: Final = ("/image-search", "/multimodal-search")  # their JSON holds a picture as base64
MAX_JSON_BYTES: Final = 1 << 20
MAX_PICTURE_JSON_BYTES: Final = 16 << 20
_FORM_BYTES: Final = 1 << 20  # of an upload beside its file


class BodyLimit:
    """Lets no body through that is larger than `max_upload_bytes` (uploads), `MAX_PICTURE_JSON_BYTES` (searches by a
    picture) or `MAX_JSON_BYTES` (all others). Every route below `prefix` that takes a body needs a key."""

    def __init__(self, app: Any, max_upload_bytes: int, prefix: str) -> None:
        self._app = app
        self._max_upload_bytes = max_upload_bytes
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        limit, needed = self._limit_of(scope)
        try:
            if needed is not None:
                check_scope(await identify(request), needed)
            elif scope["method"] in ("POST", "PUT") and scope["path"].startswith(f"{self._prefix}/"):
                shown_key(request)
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
        """The most bytes of a request's body, and the scope that is asked for before they are read."""
        if scope["method"] == "POST" and scope["path"].endswith(UPLOAD_PATH):
            return self._max_upload_bytes + _FORM_BYTES, "write"
        if scope["method"] == "POST" and scope["path"].endswith(PICTURE_PATHS):
            return MAX_PICTURE_JSON_BYTES, "search"
        return MAX_JSON_BYTES, None


def too_large(limit: int) -> ApiError:
    """A body is over a limit."""
    return ApiError(413, "media_too_large", f"The body exceeds {limit} bytes.", {"max_bytes": limit})
