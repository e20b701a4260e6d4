"""Reject requests for other hosts than this machine, so that a web page cannot reach the service by DNS rebinding.

Such a page makes its own host name resolve to 127.0.0.1, after which its requests count as requests to its own site. Its
host name is still in the `Host` header.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

_NAMES: Final = ("127.0.0.1", "localhost")


class LoopbackHosts:
    """Middleware that answers only requests whose `Host` is this machine with the port of the service."""

    def __init__(self, app: Any, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}".encode() for name in _NAMES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) == 1 and hosts[0].lower() in self._hosts:
            await self._app(scope, receive, send)
            return
        response = PlainTextResponse("This service answers only at its address on this machine.\n", status_code=421)
        await response(scope, receive, send)
