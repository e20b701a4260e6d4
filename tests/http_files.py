"""A local HTTP server of files, whose responses can be scripted per path."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Status:
    """Respond with a status, headers and a short body."""

    code: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CutOff:
    """Reset the connection after this many bytes of the body."""

    after: int


@dataclass(frozen=True)
class Hang:
    """Send nothing for a time."""

    seconds: float


@dataclass(frozen=True)
class Change:
    """Replace the file, then respond as usual."""

    content: bytes


class FileServer:
    """Serves `files` by path (without query) with ETags and ranges.

    Attributes:
        script: behaviours per path; each request takes the first, and the file is served once they are used up.
        requests: (target, headers) of every request, in order.
        passwords: "user:password" that a path requires.
        has_ranges, has_etags: whether ranges are honoured and ETags sent.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = dict(files or {})
        self.script: dict[str, list[Any]] = defaultdict(list)
        self.passwords: dict[str, str] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.has_ranges = self.has_etags = True
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    def __enter__(self) -> FileServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def url(self, path: str, userinfo: str = "") -> str:
        return f"http://{userinfo}127.0.0.1:{self.port}{path}"


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            password = server.passwords.get(path)
            expected = f"Basic {base64.b64encode((password or '').encode()).decode()}"
            if password is not None and self.headers.get("Authorization") != expected:
                return self.respond(401, b"who are you?", {"WWW-Authenticate": 'Basic realm="films"'})
            step = server.script[path].pop(0) if server.script[path] else None
            if isinstance(step, Status):
                return self.respond(step.code, b"<html>an error page</html>", step.headers)
            if isinstance(step, Hang):
                time.sleep(step.seconds)
            if isinstance(step, Change):
                server.files[path] = step.content
            if path not in server.files:
                return self.respond(404, b"<html>no such file</html>", {})
            return self.serve(server.files[path], step.after if isinstance(step, CutOff) else None)

        def serve(self, content: bytes, cut_after: int | None) -> None:
            etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            headers = {"ETag": etag} if server.has_etags else {}
            wanted = self.headers.get("Range")
            if wanted and server.has_ranges and self.headers.get("If-Range") in (None, etag):
                first = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if first >= len(content):
                    return self.respond(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
                return self.respond(206, content[first:], headers, cut_after)
            return self.respond(200, content, headers, cut_after)

        def respond(self, code: int, body: bytes, headers: dict[str, str], cut_after: int | None = None) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut_after])
            if cut_after is not None:
                self.wfile.flush()
                time.sleep(0.05)  # lets the client read these bytes before the reset discards them
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, ValueError):
                pass  # the client or the script has closed the connection

        def finish(self) -> None:
            try:
                super().finish()
            except (OSError, ValueError):
                pass

    return Handler
