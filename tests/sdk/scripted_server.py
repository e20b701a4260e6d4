"""A server that plays scripted responses, and a clock that advances only by sleeping."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import httpx2 as httpx


class Clock:
    """A clock that advances only by sleeping; records every sleep."""

    def __init__(self):
        self.seconds, self.sleeps = 0.0, []

    def now(self):
        return self.seconds

    def sleep(self, seconds):
        assert len(self.sleeps) < 1000, "too many sleeps"
        self.sleeps.append(seconds)
        self.seconds += seconds

    async def sleep_async(self, seconds):
        self.sleep(seconds)


class ScriptedServer:
    """A local HTTP server that plays a list of responses and repeats the last one; `requests` records what it receives.

    A response is (status, body, headers), a body for status 200, "reset" to break the connection before the response,
    "torn" to break it within the body, or "hang" to send nothing.
    """

    def __init__(self, *responses):
        self.responses, self.requests = list(responses), []
        self._is_closing = threading.Event()
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def respond(self):
                size = int(self.headers.get("Content-Length") or 0)
                path, _, query = self.path.partition("?")
                request = SimpleNamespace(
                    method=self.command,
                    path=path.removeprefix("/api/v2"),
                    params=dict(httpx.QueryParams(query).multi_items()),
                    headers=self.headers,
                    body=self.rfile.read(size),
                )
                scripted.requests.append(request)
                responses = scripted.responses
                scripted._play(self, responses.pop(0) if len(responses) > 1 else responses[0])

            do_GET = do_POST = do_PUT = do_DELETE = respond

            def log_message(self, *words):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def _play(self, handler, response):
        if response == "hang":
            self._is_closing.wait(20)
        if response in ("hang", "reset"):
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if response == "torn":
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"run_id":')
            return
        status, body, headers = response if isinstance(response, tuple) else (200, response, {})
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._is_closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
