"""What one process has spent on an attempt at a run, and why it calls no more: its stages share both, though each has
a session of its own."""

from __future__ import annotations

import threading

from promptreel.providers.call_policy import Halted
from promptreel.schemas.errors import ModelError
from promptreel.schemas.failure_codes import FAILURE_CODES

_ledgers: dict[tuple[str, str, int], Spending] = {}
_ledgers_lock = threading.Lock()


class Spending:
    """Tokens used so far, and the failure that ended the calling. Thread-safe."""

    def __init__(self) -> None:
        self.tokens = 0
        self._halt: ModelError | None = None
        self._lock = threading.Lock()

    def add(self, tokens: int) -> None:
        """Counts the tokens of one call."""
        with self._lock:
            self.tokens += tokens

    def note(self, error: ModelError) -> None:
        """Remembers a failure after which every further call would end the same way."""
        if FAILURE_CODES[error.code].halts_run and self._halt is None:
            self._halt = error

    def check_halted(self) -> None:
        """Raises Halted where an earlier stage met such a failure."""
        if self._halt is not None:
            message = f"not called because an earlier call failed: {self._halt.message}"
            raise Halted(self._halt.code, message)


def spending_of(data_root: str, run_id: str, attempt: int) -> Spending:
    """The spending of this process on one attempt at a run; always the same object."""
    key = (data_root, run_id, attempt)
    with _ledgers_lock:
        return _ledgers.setdefault(key, Spending())
