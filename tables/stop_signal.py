"""The stop file: how a run is asked to end early, by a person or a service, on any machine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from promptreel.tables import layout
from promptreel.tables.storage import Storage

_LOOK_EVERY_S = 0.5  # ten times finer than the 5 s in which no new call may begin


class StopSignal:
    """Checks for the stop file, at most twice a second however often it is polled.

    Args:
        is_set: whether it is set from the start, without a file.
    """

    def __init__(
        self, storage: Storage, run_id: str, clock: Callable[[], float] = time.monotonic, *, is_set: bool = False
    ) -> None:
        self._storage = storage
        self._name = layout.stop_file(run_id)
        self._clock = clock
        self._next_look = float("-inf")
        self._seen = is_set
        self._lock = threading.Lock()

    def is_set(self) -> bool:
        """Whether the run was asked to stop; once true, always true."""
        with self._lock:
            if not self._seen and self._clock() >= self._next_look:
                self._next_look = self._clock() + _LOOK_EVERY_S
                self._seen = self._storage.exists(self._name)
            return self._seen


def request_stop(storage: Storage, run_id: str, requested_by: str) -> None:
    """Asks a run to stop: no new call begins, calls under way are kept, finished work is committed."""
    content = {"requested_at": datetime.now(UTC).isoformat(), "requested_by": requested_by, "mode": "graceful"}
    storage.create_exclusive(layout.stop_file(run_id), json.dumps(content).encode())


def clear_stop(storage: Storage, run_id: str) -> None:
    """Takes back the wish to stop, so that a stopped run can be resumed."""
    if storage.exists(layout.stop_file(run_id)):
        storage.remove(layout.stop_file(run_id))
