"""The groups of calls that a run sends as batch jobs, stored so that a later attempt finds each job.

The file of a group is written before its job is created, and again with the job's name. After a kill in between, the
display name leads to the job. A second file has one line for each call whose answer is in the call records.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from promptreel.schemas.batch_group import BatchGroup
from promptreel.tables import layout
from promptreel.tables.storage import Storage
from promptreel.tables.worker_logs import numbered_lines, worker_name


class BatchGroups:
    """The groups of one run, as one worker of an attempt stores them. Every method raises StorageError if storage is
    unavailable."""

    def __init__(self, storage: Storage, run_id: str, attempt: int) -> None:
        self._storage = storage
        self._run_id = run_id
        self._attempt = attempt
        self._folder = layout.batches_folder(run_id)
        self._worker = worker_name(attempt)

    def plan(self, group_id: str, keys: Sequence[str], now: float) -> BatchGroup:
        """Return a new group of this attempt, which is not stored yet."""
        display_name = f"promptreel-{self._run_id}-{group_id}"
        return BatchGroup(group_id, display_name, self._attempt, now, tuple(keys))

    def store(self, group: BatchGroup) -> None:
        """Store a group durably, or its new state."""
        self._storage.write_atomic(f"{self._folder}/{group.group_id}.json", json.dumps(asdict(group)).encode())

    def add_recorded(self, group: BatchGroup, key: str) -> None:
        """Store that the answer to a call is in the call records: it is not read from the job again."""
        self._storage.append_line(f"{self._folder}/{group.group_id}/{self._worker}.jsonl", key.encode())

    def open_groups(self) -> list[BatchGroup]:
        """Return the groups of earlier attempts that may have answers to read, with only those keys, oldest first."""
        names = [name for name in self._storage.list_names(self._folder) if name.endswith(".json")]
        groups = [self._unrecorded(group) for name in sorted(names) if (group := self._load(name)) is not None]
        found = [group for group in groups if group.keys and group.state != "dropped" and group.attempt < self._attempt]
        return sorted(found, key=lambda group: group.planned_at)

    def _load(self, name: str) -> BatchGroup | None:
        try:
            values = json.loads(self._storage.read_bytes(f"{self._folder}/{name}"))
            return BatchGroup(**{**values, "keys": tuple(values["keys"])})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # a temporary file, or one of another version

    def _unrecorded(self, group: BatchGroup) -> BatchGroup:
        lines = numbered_lines(self._storage, f"{self._folder}/{group.group_id}")
        recorded = {line.decode().strip() for _, line in lines}
        return replace(group, keys=tuple(key for key in group.keys if key not in recorded))
