"""HTTP protocol that limits the size and time of request heads; uvicorn's httptools protocol limits neither."""

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
# After a 431, discard what the client still sends: closing at once would reset the connection, and the client would
# lose the response.
_LINGER_S: Final = 1.0


def server_options(config: ApiConfig) -> dict[str, Any]:
    """Return the service's options of `uvicorn.Config`."""
    protocol = functools.partial(BoundedHttpProtocol, header_timeout_s=config.header_timeout_s)
    return {"http": protocol, "ws": "none", "access_log": False}


class BoundedHttpProtocol(HttpToolsProtocol):
    """Responds with 431 to a head of more than `MAX_HEAD_BYTES`, and closes connections whose head is late.

    Chunk extensions and trailers count like a head: at most `MAX_HEAD_BYTES` may arrive without a byte of the body.

    Args:
        header_timeout_s: seconds from the connection, or from the first byte of its next request, until the head is
            complete. Also limits the rest of a body after its request was answered.
    """

    def __init__(self, *arguments: Any, header_timeout_s: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._header_timeout_s = header_timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._stalled_bytes = 0  # bytes since the end of a head, a byte of a body, or the end of a message
        self._has_progressed = False
        self._is_rejected = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        while data and not self._is_rejected and not self.transport.is_closing():
            remaining = MAX_HEAD_BYTES - self._stalled_bytes
            part, data = data[:remaining], data[remaining:]
            self._has_progressed = False
            super().data_received(part)
            self._stalled_bytes = 0 if self._has_progressed else self._stalled_bytes + len(part)
            if self._stalled_bytes >= MAX_HEAD_BYTES:
                self._reject()
        if not self._is_rejected:
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
        """Start the timer if the client has to send bytes, otherwise cancel it. Arriving bytes do not restart it.
        Between requests uvicorn's own timer runs, which any byte cancels."""
        is_idle = self.timeout_keep_alive_task is not None
        if is_idle or self._is_answering or self.transport.is_closing():
            self._cancel_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self._header_timeout_s, self.transport.close)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _reject(self) -> None:
        """End a connection whose head is too long; respond unless another response is in progress."""
        self._is_rejected = True
        self._cancel_timer()
        if self._is_answering:
            self.transport.close()
            return
        self.transport.write(_head_too_large())
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER_S, self.transport.close)


def _head_too_large() -> bytes:
    """Render the complete response to a head that is too long."""
    message = f"The request line and headers exceed {MAX_HEAD_BYTES} bytes."
    request_id = new_request_id()
    error = ApiError(431, "request_header_too_large", message, {"max_bytes": MAX_HEAD_BYTES})
    headers = {"X-Request-ID": request_id, "Connection": "close"}
    response = JsonResponse(error_body(error, request_id), status_code=431, headers=headers)
    lines = [b"HTTP/1.1 431 Request Header Fields Too Large"]
    lines += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body)
