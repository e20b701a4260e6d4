"""A fake Gemini service for tests and rehearsals: the real protocol over HTTP with made-up answers.

In a test:

    with FakeGemini(latency_s=0.05, faults=[Fault(first=2, status=503)]) as server:
        ...  # point the client at server.base_url
        assert server.ledger.repeated() == 0

From a shell: `python -m tests.fake_gemini --help`.
"""

from tests.fake_gemini.faults import Fault, read_faults
from tests.fake_gemini.ledger import Ledger
from tests.fake_gemini.server import FakeService
from tests.fake_gemini.usage_style import TALKATIVE, UsageStyle
from tests.server_thread import ServerThread

__all__ = ["TALKATIVE", "FakeGemini", "Fault", "Ledger", "UsageStyle", "read_faults"]


class FakeGemini(ServerThread):
    """Runs the service in a thread on a local port for the duration of a `with` block.

    Args:
        port: 0 selects a free port.
        ledger_file: file to which each call is also written; None stores the calls only in memory.
        options: latency_s, spread (sigma of a lognormal factor of the latency), rps (accepted calls per second), faults,
            processing_s (of uploads), uploads_fail, answer (a function of body and schema), marks (segments for
            requests that mark them), retired (models that get status 404), versions (maps a model to the version that its
            answers report), has_models (whether models can be looked up), batch_s (duration of batch jobs),
            usage (a UsageStyle), seed.
    """

    def __init__(self, *, port=0, ledger_file=None, **options):
        super().__init__(port)
        self.base_url = self.origin
        self.ledger = Ledger(ledger_file)
        self.service = FakeService(self.ledger, **options)
        self.service.files.base_url = self.base_url
        self.prepare(self.service.app())

    def release(self):
        """Answer the requests that a fault holds, and all later ones."""
        self.service.released.set()

    def set_faults(self, *faults):
        """Replace the scripted faults."""
        self.service.faults = list(faults)
