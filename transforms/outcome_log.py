"""The outcome log of a run: each item's plan and each operation's outcome, when known.

The pipeline passes the same values on, but its joins wait for all items. The runner reads this log meanwhile to commit
interim states. Nothing else depends on it.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict, dataclass, replace
from typing import Final

from pydantic import TypeAdapter, ValidationError

from promptreel.schemas.outcomes import Operation
from promptreel.schemas.uris import public_uri
from promptreel.tables import layout
from promptreel.tables.shards import shard_of
from promptreel.tables.storage import Storage
from promptreel.tables.worker_logs import BufferedLog, numbered_lines, shard_folder
from promptreel.transforms.elements import ItemPlan, OperationOutcome, OutcomeBatch

_logs: dict[tuple[str, str, int], BufferedLog] = {}
_logs_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line: the plan of an item, or that an operation has ended.

    Attributes:
        operation: None for a plan.
        batch: outcomes of segments.
        outcome: outcome of an operation on the item; None if the operation does not apply to it.
    """

    video_id: str
    plan: ItemPlan | None = None
    operation: Operation | None = None
    batch: OutcomeBatch | None = None
    outcome: OperationOutcome | None = None


_ENTRY: Final = TypeAdapter(LogEntry)


class OutcomeLog:
    """Appends the entries of this process for one attempt.

    Args:
        enabled: False ignores all entries.
    """

    def __init__(self, storage: Storage, run_id: str, attempt: int, shards: int, *, enabled: bool) -> None:
        self._shards = shards
        self._log = _log_of(storage, run_id, attempt) if enabled else None

    def add_plan(self, plan: ItemPlan) -> None:
        """Log the segments of an item."""
        item = plan.item
        public = replace(item, uri=public_uri(item.uri), other_uris=tuple(map(public_uri, item.other_uris)))
        self._add(LogEntry(item.video_id, plan=replace(plan, item=public)))

    def add_batch(self, operation: Operation, batch: OutcomeBatch) -> None:
        """Log that an operation has ended for the segments of a batch; an empty batch means for none."""
        self._add(LogEntry(batch.video_id, operation=operation, batch=batch))

    def add_item_outcome(self, video_id: str, operation: Operation, outcome: OperationOutcome | None) -> None:
        """Log that an operation on an item has ended; None if it does not apply."""
        self._add(LogEntry(video_id, operation=operation, outcome=outcome))

    def _add(self, entry: LogEntry) -> None:
        if self._log is None:
            return
        try:
            line = json.dumps(asdict(entry)).encode()
        except (TypeError, ValueError):
            logging.getLogger(__name__).exception("an outcome of %s cannot be logged", entry.video_id)
            return
        self._log.add(shard_of(entry.video_id, self._shards), line)


def read_outcomes(storage: Storage, run_id: str, shard: int) -> list[tuple[int, LogEntry]]:
    """(attempt, entry) of one shard, from all workers. Unreadable lines, e.g. a partial last one, are skipped."""
    found = []
    for attempt, line in numbered_lines(storage, shard_folder(layout.outcomes_folder(run_id), shard)):
        try:
            found.append((attempt, _ENTRY.validate_python(json.loads(line))))
        except (ValueError, ValidationError):
            continue
    return found


def _log_of(storage: Storage, run_id: str, attempt: int) -> BufferedLog:
    """This process's log for one attempt, created on first use."""
    key = (storage.root, run_id, attempt)
    with _logs_lock:
        if key not in _logs:
            _logs[key] = BufferedLog(storage, layout.outcomes_folder(run_id), attempt)
        return _logs[key]
