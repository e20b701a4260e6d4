"""The stop file, by which a user or the service stops a run early from any machine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from promptreel.tables import layout
from promptreel.tables.storage import Storage

_POLL_INTERVAL_S = 0.5  # well below the 5 s within which a stopped run must stop sending calls


class StopSignal:
    """Checks for the stop file, at most twice a second.

    Args:
        is_set: set the signal from the start, without a file.
    """

    def __init__(
        self, storage: Storage, run_id: str, clock: Callable[[], float] = time.monotonic, *, is_set: bool = False
    ) -> None:
        self._storage = storage
        self._name = layout.stop_file(run_id)
        self._clock = clock
        self._next_poll = float("-inf")
        self._seen = is_set
        self._lock = threading.Lock()

    def is_set(self) -> bool:
        """Whether a stop was requested; once true, it stays true."""
        with self._lock:
            if not self._seen and self._clock() >= self._next_poll:
                self._next_poll = self._clock() + _POLL_INTERVAL_S
                self._seen = self._storage.exists(self._name)
            return self._seen


def request_stop(storage: Storage, run_id: str, requested_by: str) -> None:
    """Request a stop: the run sends no new calls, waits for calls in flight and commits the finished work."""
    content = {"requested_at": datetime.now(UTC).isoformat(), "requested_by": requested_by, "mode": "graceful"}
    storage.create_exclusive(layout.stop_file(run_id), json.dumps(content).encode())


def clear_stop(storage: Storage, run_id: str) -> None:
    """Withdraw a stop request, so that the run can be resumed."""
    if storage.exists(layout.stop_file(run_id)):
        storage.remove(layout.stop_file(run_id))
