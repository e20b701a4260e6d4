"""Every request that the server answered, or did not: what a run's own records are checked against."""

import json
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass


@dataclass
class Entry:
    """One request.

    Attributes:
        content: hash of what was asked, the same for every try of the same question.
        in_flight: requests under way when it came, itself included.
        path: of the URL, which tells Vertex AI and the Gemini API apart.
        status: HTTP status; 0 for a connection that was broken or never answered.
    """

    number: int
    method: str
    model: str
    content: str
    arrived_at: float
    in_flight: int
    answered_at: float | None = None
    status: int | None = None
    finish_reason: str | None = None
    fault: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    text: str = ""
    path: str = ""


class Ledger:
    """Thread-safe; written through to a file, a line when a request comes and one before it is answered."""

    def __init__(self, path=None):
        self._lock = threading.Lock()
        self._file = open(path, "a", buffering=1) if path else None  # noqa: SIM115
        self.entries = []
        self._in_flight = 0

    def begin(self, method, model, content, text, path=""):
        """Notes a request that came."""
        with self._lock:
            self._in_flight += 1
            number, now = len(self.entries) + 1, time.monotonic()
            entry = Entry(number, method, model, content, now, self._in_flight, text=text, path=path)
            self.entries.append(entry)
            self._write("begin", entry)
            return entry

    def end(self, entry, status, **facts):
        """Notes how it is answered, before the answer is sent."""
        with self._lock:
            self._in_flight -= 1
            entry.answered_at, entry.status = time.monotonic(), status
            for name, value in facts.items():
                setattr(entry, name, value)
            self._write("end", entry)

    def calls(self, method="generateContent"):
        """Requests of one method."""
        with self._lock:
            return [entry for entry in self.entries if entry.method == method]

    def answered(self, method="generateContent"):
        """Requests that got an answer with status 200."""
        return [entry for entry in self.calls(method) if entry.status == 200]

    def repeated(self, method="generateContent"):
        """Answers beyond the first to the same question: what was paid more than once."""
        return sum(count - 1 for count in Counter(entry.content for entry in self.answered(method)).values())

    def max_in_flight(self):
        """Most requests under way at once."""
        return max((entry.in_flight for entry in self.calls()), default=0)

    def refused_share(self):
        """Share of requests answered 429."""
        calls = self.calls()
        return sum(entry.status == 429 for entry in calls) / max(1, len(calls))

    def rate(self):
        """Answers with status 200 for each second between the first request and the last answer."""
        answered = self.answered()
        if not answered:
            return 0.0
        first = min(entry.arrived_at for entry in self.calls())
        return len(answered) / max(1e-9, max(entry.answered_at for entry in answered) - first)

    def clear(self):
        """Forgets everything so far."""
        with self._lock:
            self.entries.clear()
            self._in_flight = 0

    def _write(self, event, entry):
        if self._file is not None:
            self._file.write(json.dumps({"event": event, **asdict(entry)}) + "\n")
