"""HTTP connections with bounded request heads: uvicorn's httptools protocol bounds neither their bytes nor their time."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from promptreel.api.config import ApiConfig
from promptreel.api.web.errors import ApiError, error_body
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.middleware import new_request_id

MAX_HEAD_BYTES: Final = 64 << 10
# After a 431, what the client still sends is discarded for so long: closing at once would reset the connection, and the
# client would lose the answer.
_LINGER_S: Final = 1.0


def server_options(config: ApiConfig) -> dict[str, Any]:
    """Options of `uvicorn.Config` with which the service is run."""
    protocol = functools.partial(BoundedHttpProtocol, header_timeout_s=config.header_timeout_s)
    return {"http": protocol, "ws": "none", "access_log": False}


class BoundedHttpProtocol(HttpToolsProtocol):
    """Answers 431 to a request head of more than `MAX_HEAD_BYTES`, and closes a connection whose head is late.

    Chunk extensions and trailers count like a head: no more than `MAX_HEAD_BYTES` may come without a byte of the body.

    Args:
        header_timeout_s: seconds from the connection, or from the first byte of its next request, until the head is
            complete; also what remains of a body after its request was answered.
    """

    def __init__(self, *arguments: Any, header_timeout_s: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._header_timeout_s = header_timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._without_progress = 0  # bytes received since the end of a head, a byte of a body, or the end of a message
        self._has_progressed = False
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        while data and not self._is_refused and not self.transport.is_closing():
            room = MAX_HEAD_BYTES - self._without_progress
            part, data = data[:room], data[room:]
            self._has_progressed = False
            super().data_received(part)
            self._without_progress = 0 if self._has_progressed else self._without_progress + len(part)
            if self._without_progress >= MAX_HEAD_BYTES:
                self._refuse()
        if not self._is_refused:
            self._set_timer()

    def on_headers_complete(self) -> None:
        self._has_progressed = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._has_progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._has_progressed = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._set_timer()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _set_timer(self) -> None:
        """Starts the timer if the client owes bytes, and cancels it if it does not. It runs on while bytes arrive. Between
        requests uvicorn's own timer runs, which any byte cancels."""
        is_idle = self.timeout_keep_alive_task is not None
        if is_idle or self._is_answering or self.transport.is_closing():
            self._cancel_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self._header_timeout_s, self.transport.close)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self) -> None:
        """Ends a connection whose head is too long: with an answer, unless it would land inside another one."""
        self._is_refused = True
        self._cancel_timer()
        if self._is_answering:
            self.transport.close()
            return
        self.transport.write(_too_large())
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER_S, self.transport.close)


def _too_large() -> bytes:
    """The complete response to a request head that is too long."""
    message = f"The request line and headers exceed {MAX_HEAD_BYTES} bytes."
    request_id = new_request_id()
    error = ApiError(431, "request_header_too_large", message, {"max_bytes": MAX_HEAD_BYTES})
    headers = {"X-Request-ID": request_id, "Connection": "close"}
    response = JsonResponse(error_body(error, request_id), status_code=431, headers=headers)
    lines = [b"HTTP/1.1 431 Request Header Fields Too Large"]
    lines += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body)
