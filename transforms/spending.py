"""The tokens that one process used in an attempt of a run, and the failure that halted its calls.

All stages of the process share both, although each stage has its own session.
"""

from __future__ import annotations

import threading

from promptreel.providers.call_policy import Halted
from promptreel.schemas.errors import ModelError
from promptreel.schemas.failure_codes import FAILURE_CODES

_spendings: dict[tuple[str, str, int], Spending] = {}
_spendings_lock = threading.Lock()


class Spending:
    """Tokens used so far, and the failure that halted the calls. Thread-safe."""

    def __init__(self) -> None:
        self.tokens = 0
        self._halt: ModelError | None = None
        self._lock = threading.Lock()

    def add(self, tokens: int) -> None:
        """Add the tokens of one call."""
        with self._lock:
            self.tokens += tokens

    def note(self, error: ModelError) -> None:
        """Record a failure that every further call would repeat."""
        if FAILURE_CODES[error.code].halts_run and self._halt is None:
            self._halt = error

    def check_halted(self) -> None:
        """Raise Halted if such a failure was recorded."""
        if self._halt is not None:
            message = f"not called because an earlier call failed: {self._halt.message}"
            raise Halted(self._halt.code, message)


def spending_of(data_root: str, run_id: str, attempt: int) -> Spending:
    """Return this process's spending on one attempt of a run, always the same object."""
    key = (data_root, run_id, attempt)
    with _spendings_lock:
        return _spendings.setdefault(key, Spending())
