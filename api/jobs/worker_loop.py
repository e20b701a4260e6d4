"""Base of background jobs: a thread of the service that works in small steps and holds leases."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from typing import Final

from promptreel.api.jobs.leases import SILENT_BEATS, Watch, new_owner

_log = logging.getLogger(__name__)

_STEP_INTERVAL_S: Final = 0.25
_STOP_TIMEOUT_S: Final = 30.0


class WorkerLoop(ABC):
    """Calls `step` until stopped. Exceptions of a step are logged, and the loop continues.

    Args:
        name: name of the thread.
        heartbeat_s: seconds between heartbeats; leases expire after five missed ones.
    """

    def __init__(self, name: str, heartbeat_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._owner = new_owner()
        self._watch = Watch(SILENT_BEATS * heartbeat_s)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the loop after the current step."""
        self._stopping.set()
        self._thread.join(timeout=_STOP_TIMEOUT_S)

    @abstractmethod
    def step(self) -> bool:
        """Run one step; return whether to run the next one immediately."""

    def release_leases(self) -> None:
        """Release all leases at the end of the loop, so that other workers need not wait until they expire."""

    def _run(self) -> None:
        while not self._stopping.wait(_STEP_INTERVAL_S):
            try:
                while not self._stopping.is_set() and self.step():
                    pass
            except Exception:
                _log.exception("a step of %s failed; the loop continues", self._thread.name)
        try:
            self.release_leases()
        except Exception:
            _log.exception("cannot release the leases of %s; they will expire", self._thread.name)
