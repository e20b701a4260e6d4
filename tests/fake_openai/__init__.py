"""A fake OpenAI-compatible server for tests: chat completions over HTTP with made-up answers and scripted faults.

with FakeOpenAI(supports=Supports(structures=("json_object",))) as server:
    ...  # point the client at server.base_url
"""

from tests.fake_gemini.ledger import Ledger
from tests.fake_openai.server import ChatService, Supports
from tests.server_thread import ServerThread

__all__ = ["FakeOpenAI", "Supports"]


class FakeOpenAI(ServerThread):
    """Runs the server in a thread on a free local port for the duration of a `with` block.

    Args:
        options: supports (what the server accepts), faults, answer (a function of body and schema), latency_s.
    """

    def __init__(self, **options):
        super().__init__()
        self.base_url = f"{self.origin}/v1"
        self.ledger = Ledger()
        self.service = ChatService(self.ledger, **options)
        self.prepare(self.service.app())

    def set_faults(self, *faults):
        """Replace the scripted faults."""
        self.service.faults = list(faults)
