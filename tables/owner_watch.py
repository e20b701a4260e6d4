"""Whether the owner of a claim is alive, as one observer sees it; see `promptreel.tables.operation_claims`."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from promptreel.tables import layout
from promptreel.tables.attempts import is_running
from promptreel.tables.storage import LocalStorage, Storage

_OBSERVATION_INTERVAL_S: Final = 1.0


class OwnerWatch:
    """Watches heartbeats. Used by several threads.

    Args:
        run_id, attempt: of the observer.
        clock: monotonic, in seconds.
    """

    def __init__(self, storage: Storage, run_id: str, attempt: int, clock: Callable[[], float]) -> None:
        self._storage = storage
        self._run_id = run_id
        self._attempt = attempt
        self._clock = clock
        self._seen: dict[str, tuple[bytes, float]] = {}  # by owner: the heartbeat, and when it last changed
        self._observed: dict[str, tuple[float, bool]] = {}  # by owner: when, and whether it was gone
        self._lock = threading.Lock()

    def run_of(self, claim: bytes) -> str:
        """The run of a claim's owner."""
        return str((_parse(claim) or {}).get("run_id"))

    def is_gone(self, claim: bytes, lease_s: float) -> bool:
        """Whether the owner of a claim cannot hold it any more.

        Raises:
            StorageError: the heartbeat could not be read.
        """
        holder = _parse(claim)
        if holder is None:
            return True  # claims are created atomically: a crash of the machine damaged it
        if holder["run_id"] == self._run_id and holder["attempt"] < self._attempt:
            return True  # only the newest attempt of a run may work
        with self._lock:
            now = self._clock()
            observed_at, gone = self._observed.get(holder["owner"], (float("-inf"), False))
            if now - observed_at >= _OBSERVATION_INTERVAL_S:
                gone = self._is_dead_here(holder) or self._is_silent(holder["owner"], now, lease_s)
                self._observed[holder["owner"]] = now, gone
            return gone

    def _is_dead_here(self, holder: dict[str, Any]) -> bool:
        """Whether the holder's run has no process on this machine, where the operating system knows it."""
        is_here = isinstance(self._storage, LocalStorage) and holder["host"] == socket.gethostname()
        return is_here and not is_running(self._storage, holder["run_id"])

    def _is_silent(self, owner: str, now: float, lease_s: float) -> bool:
        try:
            heartbeat = self._storage.read_bytes(layout.claim_owner_file(owner))
        except FileNotFoundError:
            return True  # removed when the owner ended
        seen = self._seen.get(owner)
        if seen is None or seen[0] != heartbeat:
            self._seen[owner] = heartbeat, now
            return False
        return now - seen[1] >= lease_s


def _parse(claim: bytes) -> dict[str, Any] | None:
    try:
        holder = json.loads(claim)
        return {name: holder[name] for name in ("owner", "run_id", "attempt", "host")}
    except (ValueError, KeyError, TypeError):
        return None
