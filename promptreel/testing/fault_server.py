"""An HTTP server on a free local port that answers with scripted replies, in the format of any service."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from promptreel.testing.fault_cases import RETRY_AFTER_S, Completion, Reply

Body = Mapping[str, Any]


class FaultServer:
    """Serves replies for the duration of a `with` block.

    Args:
        completion_body: returns the body of an answer; None if the service has no such answer.
        error_body: returns the body of an error, by status.

    Attributes:
        requests: the bodies received, as text.
    """

    def __init__(self, completion_body: Callable[[Completion], Body | None], error_body: Callable[[int], Body]) -> None:
        self._completion_body, self._error_body = completion_body, error_body
        self._replies: Sequence[Reply] = (Reply(),)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.requests: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the client closed the connection
                    super().handle()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                owner._reply(self, body, owner._next_reply(body))

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """The base URL, without a final slash."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def script(self, *replies: Reply) -> None:
        """Set the replies to the next requests, in order; the last one repeats. Forgets earlier requests."""
        with self._lock:
            self._replies, self.requests = replies, []

    def _next_reply(self, body: str) -> Reply:
        with self._lock:
            self.requests.append(body)
            return self._replies[min(len(self.requests), len(self._replies)) - 1]

    def _reply(self, handler: BaseHTTPRequestHandler, request: str, reply: Reply) -> None:
        if reply.kind == "hang":
            self._closing.wait()
        if reply.kind in ("hang", "reset"):
            _reset(handler)
            return
        status, kind = reply.status, "application/json"
        if reply.kind == "html":
            content, kind = f"<html><body>{status} from a proxy</body></html>".encode(), "text/html"
        elif reply.kind == "raw":
            content = json.dumps(reply.body).encode()
        elif status != 200:
            content = json.dumps(self._error_body(status)).encode()
        else:
            content = json.dumps(self._completion_body(answered(reply.completion, request))).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        if status == 429:
            handler.send_header("Retry-After", str(RETRY_AFTER_S))
        handler.end_headers()
        if reply.kind == "cut":
            content = content[: len(content) // 2]
            handler.close_connection = True
        handler.wfile.write(content)


def answered(completion: Completion, request: str) -> Completion:
    """Return a completion with the text of the valid answer, unless it has another text."""
    if completion.text is not None:
        return completion
    asked = re.search(r"The number is (\d+)", request)
    return replace(completion, text=json.dumps({"n": int(asked.group(1)) if asked else 1}))


def _reset(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection with RST."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True
