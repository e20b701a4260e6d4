"""Call records: one line when a model call starts and one when it ends. They survive the death of the process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.money import cost_counts
from promptreel.schemas.table_rows import LlmCallRow
from promptreel.tables import layout
from promptreel.tables.storage import LocalStorage, Storage, storage_errors
from promptreel.tables.worker_logs import numbered_lines


class CallLog:
    """Appends the call records of one worker to its own files, one per shard of the run's tables.

    Args:
        shard_of: maps a video id to its shard, so that the calls of one shard can be read alone.
        repeat_failed_until: maps a (video id, segment id) to the last attempt whose failed answers are ignored, because
            the user retries them; 0 ignores none.
    """

    def __init__(
        self,
        storage: Storage,
        run_id: str,
        attempt: int,
        shard_of: Callable[[str], int],
        repeat_failed_until: Callable[[str, str | None], int] = lambda video_id, segment_id: 0,
    ) -> None:
        self._storage = storage
        self._run_id = run_id
        self._attempt = attempt
        self._folder = layout.calls_folder(run_id)
        self._worker = f"{attempt:06d}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._shard_of = shard_of
        self._repeat_failed_until = repeat_failed_until
        self._lock = threading.Lock()
        self._uncached: dict[int, dict[str, list[tuple[int, LlmCallRow]]]] = {}
        self._reading = threading.Lock()
        self._unsynced: set[str] = set()
        self._syncing = threading.Lock()

    def begin(self, call: LlmCallRow) -> None:
        """Record a call before it is sent. If this raises StorageError, the call must not be sent."""
        self._append("begin", call)

    def end(self, call: LlmCallRow) -> None:
        """Record the end of a call, whatever its outcome. Raises StorageError."""
        self._append("end", call)

    def sync(self) -> None:
        """Flush all records so far to disk, so that they survive a crash of the machine. Raises StorageError."""
        if not isinstance(self._storage, LocalStorage):  # a written object is durable
            return
        with self._syncing:
            with self._lock:
                names, self._unsynced = self._unsynced, set()
            for name in names:
                _sync_file(self._storage.path / name)

    async def answers(self, video_id: str, segment_id: str | None, operation_key: str) -> Sequence[LlmCallRow]:
        """Calls of earlier attempts whose answer, valid or failed, is not in the operation cache, newest first.

        The records of a shard are read once.
        """
        if self._attempt == 1:
            return ()
        shard = self._shard_of(video_id)
        if shard not in self._uncached:
            await asyncio.to_thread(self._read_uncached, shard)
        ignored_until = self._repeat_failed_until(video_id, segment_id)
        found = self._uncached[shard].get(operation_key, ())
        return [call for attempt, call in found if call.status == "success" or attempt > ignored_until]

    def _read_uncached(self, shard: int) -> None:
        with self._reading:
            if shard not in self._uncached:
                self._uncached[shard] = uncached_answers(self._storage, self._run_id, shard)

    def _name(self, video_id: str) -> str:
        return f"{self._folder}/{_shard_folder(self._shard_of(video_id))}/{self._worker}.jsonl"

    def _append(self, event: str, call: LlmCallRow) -> None:
        name = self._name(call.video_id)
        line = json.dumps({"event": event, "call": asdict(call)}, ensure_ascii=False)
        with self._lock:
            self._unsynced.add(name)
            self._storage.append_line(name, line.encode("utf-8", "replace"))


def read_calls(storage: Storage, run_id: str, shard: int) -> dict[str, LlmCallRow]:
    """Calls of one shard of a run over all attempts, by call id. A call without an end has the status "interrupted"."""
    return {call.llm_call_id: call for _, call in _numbered_calls(storage, run_id, shard)}


def uncached_answers(storage: Storage, run_id: str, shard: int) -> dict[str, list[tuple[int, LlmCallRow]]]:
    """(attempt, call) of the answered calls of one shard whose operation is not cached, by operation key, newest first."""
    found: dict[str, list[tuple[int, LlmCallRow]]] = {}
    calls = _numbered_calls(storage, run_id, shard)
    for attempt, call in sorted(calls, key=lambda entry: (entry[0], entry[1].invoked_at), reverse=True):
        if _has_answer(call):
            found.setdefault(call.operation_key, []).append((attempt, call))
    return {key: calls for key, calls in found.items() if not storage.exists(layout.operation_file(key))}


@dataclass(frozen=True, slots=True)
class Spent:
    """What all calls of a run have used so far.

    Attributes:
        money: counters of the cost, see `promptreel.schemas.money`.
    """

    tokens: int
    money: Mapping[str, int]


def read_spent(storage: Storage, run_id: str) -> Spent:
    """Sum up the call records of a run."""
    tokens, money = 0, Counter[str]()
    for shard in storage.list_names(layout.calls_folder(run_id)):
        for call in read_calls(storage, run_id, int(shard)).values():
            tokens += call.total_tokens
            money.update(cost_counts(call.cost, call.currency, call.total_tokens))
    return Spent(tokens, money)


def _has_answer(call: LlmCallRow) -> bool:
    """Whether a call returned an answer that is billed, valid or failed."""
    failure = FAILURE_CODES.get(call.code or "")
    return bool(call.status == "success" and call.response_text) or (failure is not None and failure.is_paid_answer)


def _sync_file(path: Path) -> None:
    with storage_errors("sync", path), path.open("rb") as file:
        os.fsync(file.fileno())


def _shard_folder(shard: int) -> str:
    return f"{shard:05d}"


def _numbered_calls(storage: Storage, run_id: str, shard: int) -> list[tuple[int, LlmCallRow]]:
    """(attempt, call) of every call of one shard; a call without an end has the status "interrupted"."""
    calls: dict[str, tuple[int, LlmCallRow]] = {}
    for attempt, line in numbered_lines(storage, f"{layout.calls_folder(run_id)}/{_shard_folder(shard)}"):
        try:
            entry = json.loads(line)
            call = LlmCallRow(**entry["call"])
        except (ValueError, KeyError, TypeError):
            continue  # a killed process may leave a partial last line; its call is then "interrupted"
        if entry["event"] == "end" or call.llm_call_id not in calls:
            calls[call.llm_call_id] = (attempt, call)
    return list(calls.values())
