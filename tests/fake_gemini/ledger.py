"""Record every request that the server received, to check the call records of a run."""

import json
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass


@dataclass
class Entry:
    """One request.

    Attributes:
        content: hash of the model and body, the same for every try of the same request.
        in_flight: requests in flight at its arrival, including itself.
        path: of the URL, to distinguish Vertex AI and the Gemini API.
        tier: service tier; "batch" for a request that a batch job executed.
        status: HTTP status; 0 if the connection was broken or the request never answered.
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
    tier: str = "standard"


class Ledger:
    """All requests, thread-safe; optionally in a file, with a line at each arrival and one before each answer."""

    def __init__(self, path=None):
        self._lock = threading.Lock()
        self._file = open(path, "a", buffering=1) if path else None  # noqa: SIM115
        self.entries = []
        self._in_flight = 0

    def begin(self, method, model, content, text, path=""):
        """Record the arrival of a request."""
        with self._lock:
            self._in_flight += 1
            number, now = len(self.entries) + 1, time.monotonic()
            entry = Entry(number, method, model, content, now, self._in_flight, text=text, path=path)
            self.entries.append(entry)
            self._write("begin", entry)
            return entry

    def end(self, entry, status, **facts):
        """Record the answer to a request, before it is sent."""
        with self._lock:
            self._in_flight -= 1
            entry.answered_at, entry.status = time.monotonic(), status
            for name, value in facts.items():
                setattr(entry, name, value)
            self._write("end", entry)

    def calls(self, method="generateContent"):
        """Return the requests of one method."""
        with self._lock:
            return [entry for entry in self.entries if entry.method == method]

    def answered(self, method="generateContent"):
        """Return the requests answered with status 200."""
        return [entry for entry in self.calls(method) if entry.status == 200]

    def repeated(self, method="generateContent"):
        """Return the number of answers beyond the first to the same request: the calls paid more than once."""
        return sum(count - 1 for count in Counter(entry.content for entry in self.answered(method)).values())

    def bill(self):
        """Return the price of all answers, in tokens at the standard price; other tiers cost half."""
        answered = self.answered()
        return sum((e.input_tokens + e.output_tokens) * (1.0 if e.tier == "standard" else 0.5) for e in answered)

    def max_in_flight(self):
        """Return the maximum number of requests in flight."""
        return max((entry.in_flight for entry in self.calls()), default=0)

    def rejected_share(self):
        """Return the share of requests answered 429."""
        calls = self.calls()
        return sum(entry.status == 429 for entry in calls) / max(1, len(calls))

    def rate(self):
        """Return the answers with status 200 per second between the first request and the last answer."""
        answered = self.answered()
        if not answered:
            return 0.0
        first = min(entry.arrived_at for entry in self.calls())
        return len(answered) / max(1e-9, max(entry.answered_at for entry in answered) - first)

    def clear(self):
        """Drop all entries."""
        with self._lock:
            self.entries.clear()
            self._in_flight = 0

    def _write(self, event, entry):
        if self._file is not None:
            self._file.write(json.dumps({"event": event, **asdict(entry)}) + "\n")
