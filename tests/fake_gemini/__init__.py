"""A fake Gemini service for tests and rehearsals: the real protocol over HTTP with made-up answers.

In a test:

    with FakeGemini(latency_s=0.05, faults=[Fault(first=2, status=503)]) as server:
        ...  # point the client at server.base_url
        assert server.ledger.repeated() == 0

From a shell: `python -m tests.fake_gemini --help`.
"""

import socket
import threading
import time

import uvicorn

from tests.fake_gemini.faults import Fault, read_faults
from tests.fake_gemini.ledger import Ledger
from tests.fake_gemini.server import FakeService
from tests.fake_gemini.usage_style import TALKATIVE, UsageStyle

__all__ = ["TALKATIVE", "FakeGemini", "Fault", "Ledger", "UsageStyle", "read_faults"]


class FakeGemini:
    """Runs the service in a thread on a local port for the duration of a `with` block.

    Args:
        port: 0 selects a free port.
        ledger_file: file to which each call is also written; None stores the calls only in memory.
        options: latency_s, spread (sigma of a lognormal factor of the latency), rps (accepted calls per second), faults,
            processing_s (of uploads), uploads_fail, answer (a function of body and schema), retired (models that get
            status 404), versions (maps a model to the version that its answers report), usage (a UsageStyle), seed.
    """

    def __init__(self, *, port=0, ledger_file=None, **options):
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.ledger = Ledger(ledger_file)
        self.service = FakeService(self.ledger, **options)
        self.service.files.base_url = self.base_url
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
                raise RuntimeError("the fake service did not start")
            time.sleep(0.005)
        return self

    def __exit__(self, *error):
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self._server.force_exit = True
        self._thread.join(timeout=5)
        self._socket.close()

    def release(self):
        """Answer the requests that a fault holds, and all later ones."""
        self.service.released.set()

    def set_faults(self, *faults):
        """Replace the scripted faults."""
        self.service.faults = list(faults)
