"""A fake OpenAI-compatible server for tests: chat completions over HTTP with made-up answers and scripted faults.

with FakeOpenAI(supports=Supports(structures=("json_object",))) as server:
    ...  # point the client at server.base_url
"""

import socket
import threading
import time

import uvicorn

from tests.fake_gemini.ledger import Ledger
from tests.fake_openai.server import ChatService, Supports

__all__ = ["FakeOpenAI", "Supports"]


class FakeOpenAI:
    """Runs the server in a thread on a free local port for the duration of a `with` block.

    Args:
        options: supports (what the server accepts), faults, answer (a function of body and schema), latency_s.
    """

    def __init__(self, **options):
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self.ledger = Ledger()
        self.service = ChatService(self.ledger, **options)
        config = uvicorn.Config(
            self.service.app(), log_level="critical", access_log=False, timeout_graceful_shutdown=1, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self):
        self._thread.start()
        until = time.monotonic() + 10
        while not self._server.started:
            if time.monotonic() > until or not self._thread.is_alive():
                raise RuntimeError("the fake server did not start")
            time.sleep(0.005)
        return self

    def __exit__(self, *error):
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self._server.force_exit = True
        self._thread.join(timeout=5)
        self._socket.close()

    def set_faults(self, *faults):
        """Replace the scripted faults."""
        self.service.faults = list(faults)
