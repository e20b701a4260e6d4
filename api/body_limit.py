"""Bodies are refused before they are read: those over a limit, and uploads of callers who may not make any.

Frameworks read a body before they ask who sends it; without this, anybody could fill a disk.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from api.auth import authenticate, check_scope
from api.errors import ApiError, error_response
from api.middleware import Receive, Scope, Send

UPLOAD_PATH: Final = "/videos/upload"
MOST_JSON_BYTES: Final = 32 << 20
_FORM_BYTES: Final = 1 << 20  # of an upload beside its file


class BodyLimit:
    """Lets no body through that is larger than `max_upload_bytes` (uploads) or `MOST_JSON_BYTES` (all others)."""

    def __init__(self, app: Any, max_upload_bytes: int) -> None:
        self._app = app
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        is_upload = scope["method"] == "POST" and scope["path"].endswith(UPLOAD_PATH)
        limit = self._max_upload_bytes + _FORM_BYTES if is_upload else MOST_JSON_BYTES
        try:
            if is_upload:
                await run_in_threadpool(_check_uploader, request)
            declared = request.headers.get("content-length", "")
            if declared.isdigit() and int(declared) > limit:
                raise too_large(limit)
        except ApiError as error:
            await error_response(request, error)(scope, receive, send)
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


def too_large(limit: int) -> ApiError:
    """A body is over a limit."""
    return ApiError(413, "media_too_large", f"The body is larger than {limit} bytes.", {"max_bytes": limit})


def _check_uploader(request: Request) -> None:
    check_scope(authenticate(request), "write")
