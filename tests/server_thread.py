"""An ASGI app on a local port, in a thread of the test."""

import socket
import threading
import time

import uvicorn


class ServerThread:
    """Serves an app for the duration of a `with` block.

    Args:
        port: 0 selects a free port.
    """

    def __init__(self, port=0):
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.origin = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def prepare(self, app):
        """Set the app to serve, which may need to know the address."""
        config = uvicorn.Config(
            app, log_level="critical", access_log=False, timeout_graceful_shutdown=1, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self):
        self._thread.start()
        until = time.monotonic() + 10
        while not self._server.started:
            if time.monotonic() > until or not self._thread.is_alive():
                raise RuntimeError("the fake service did not start")
            time.sleep(0.005)
        return self

    def __exit__(self, *error):
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self._server.force_exit = True
        self._thread.join(timeout=5)
        self._socket.close()
