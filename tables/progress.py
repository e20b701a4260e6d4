"""Progress: counters that workers hold in memory and write to the run folder once a second."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from promptreel.schemas.errors import StorageError
from promptreel.schemas.outcomes import Operation, Outcome
from promptreel.schemas.service_state import ServiceState, service_state_of
from promptreel.tables import layout
from promptreel.tables.storage import Storage

_WRITE_INTERVAL_S: Final = 1.0

_boards: dict[tuple[str, str, int], ProgressBoard] = {}
_boards_lock = threading.Lock()


class ProgressBoard:
    """Counters of one worker process for one attempt at a run. Thread-safe.

    Counters: items_read, items_failed, segments_planned, analyses_reused, calls, calls_failed, input_tokens,
    output_tokens, thought_tokens, cached_tokens, total_tokens; the cost of all attempts, see `promptreel.schemas.money`;
    from `add_outcomes`: operations_done, operations_reused, operations_failed, operations_cancelled, and
    `<operation>.<outcome>`, e.g. field_extraction.succeeded.
    """

    def __init__(self, storage: Storage, run_id: str, attempt: int) -> None:
        self._storage = storage
        self._name = f"{layout.progress_folder(run_id)}/{attempt:06d}-{socket.gethostname()}-{os.getpid()}.json"
        self._counts: Counter[str] = Counter()
        self._service_states: dict[str, ServiceState] = {}
        self._lock = threading.Lock()
        self._dirty = threading.Event()
        threading.Thread(target=self._write_forever, name="progress", daemon=True).start()

    def add(self, **counts: int) -> None:
        """Increment counters."""
        with self._lock:
            self._counts.update(counts)
        self._dirty.set()

    def add_outcomes(self, operation: Operation, outcome: Outcome, count: int = 1, *, reused: bool = False) -> None:
        """Count finished operations.

        Args:
            count: number of segments.
            reused: whether the results came from the operation cache.
        """
        counts = {"operations_done": count, f"{operation}.{outcome}": count, "operations_reused": count * reused}
        if outcome != "succeeded":
            counts[f"operations_{outcome}"] = count
        self.add(**counts)

    def set_service_state(self, model: str, state: ServiceState | None) -> None:
        """Set why calls of a model wait or were halted; None while they succeed. A halt is written at once."""
        with self._lock:
            if state is None:
                self._service_states.pop(model, None)
            else:
                self._service_states[model] = state
        self._dirty.set()
        if state is not None and state.status == "halted":
            self.flush()

    def flush(self) -> None:
        """Write the counters now. A storage error is ignored: failing to write progress must not fail the run."""
        with self._lock:
            state = {
                "updated_at": datetime.now(UTC).isoformat(),
                "counts": dict(self._counts),
                "service_states": {model: state.to_dict() for model, state in self._service_states.items()},
            }
        try:
            self._storage.write_atomic(self._name, json.dumps(state).encode())
        except StorageError:
            pass

    def _write_forever(self) -> None:
        pause = threading.Event()
        while True:
            self._dirty.wait()
            self._dirty.clear()
            self.flush()
            pause.wait(_WRITE_INTERVAL_S)


def progress_board(storage: Storage, run_id: str, attempt: int) -> ProgressBoard:
    """Return this process's board for one attempt at a run, creating it on first use."""
    key = (storage.root, run_id, attempt)
    with _boards_lock:
        if key not in _boards:
            _boards[key] = ProgressBoard(storage, run_id, attempt)
        return _boards[key]


def read_progress(storage: Storage, run_id: str) -> Mapping[str, int]:
    """Counters of the newest attempt, summed over its workers."""
    total: Counter[str] = Counter()
    for board in _boards_of(storage, run_id):
        total.update(board.get("counts", {}))
    return total


def read_service_states(storage: Storage, run_id: str, attempt: int | None = None) -> list[ServiceState]:
    """Why calls wait or were halted, the gravest reason first; empty while calls succeed.

    Args:
        attempt: None for the newest attempt.
    """
    values = [
        value for board in _boards_of(storage, run_id, attempt) for value in board.get("service_states", {}).values()
    ]
    states = [state for state in map(service_state_of, values) if state is not None]
    return sorted(states, key=lambda state: (state.gravity, state.since))


def _boards_of(storage: Storage, run_id: str, attempt: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the boards of one attempt's workers; a board that cannot be read is skipped."""
    folder = layout.progress_folder(run_id)
    names = [name for name in storage.list_names(folder) if name.endswith(".json")]
    newest = max((name.split("-", 1)[0] for name in names), default="")
    wanted = newest if attempt is None else f"{attempt:06d}"
    for name in names:
        if name.startswith(f"{wanted}-"):
            try:
                board = json.loads(storage.read_bytes(f"{folder}/{name}"))
            except (FileNotFoundError, ValueError):
                continue
            if isinstance(board, dict):
                yield board
