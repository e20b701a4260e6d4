"""Call records: a line when a model call begins and a line when it ends, kept through the death of the process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.records import LlmCallRow
from promptreel.tables import layout
from promptreel.tables.storage import LocalStorage, Storage, storage_errors


class CallLog:
    """Appends the call records of one worker to files of its own, one for each shard of the run's tables.

    Args:
        shard_of: the shard of a video id; a shard's calls can then be read without the others.
        repeat_failed_until: for a (video id, segment id), the last attempt whose failed answers do not count, because the
            user retries them; 0 counts all.
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
        self._unkept: dict[int, dict[str, list[tuple[int, LlmCallRow]]]] = {}
        self._reading = threading.Lock()
        self._unsynced: set[str] = set()
        self._syncing = threading.Lock()

    def begin(self, call: LlmCallRow) -> None:
        """Notes a call before it is sent. Raises StorageError: then it must not be sent."""
        self._append("begin", call)

    def end(self, call: LlmCallRow) -> None:
        """Notes a call's end, whatever it was. Raises StorageError."""
        self._append("end", call)

    def sync(self) -> None:
        """Returns once all that was noted before survives the death of the machine too. Raises StorageError."""
        if not isinstance(self._storage, LocalStorage):  # an object is durable when it is written
            return
        with self._syncing:
            with self._lock:
                names, self._unsynced = self._unsynced, set()
            for name in names:
                _sync_file(self._storage.path / name)

    async def answers(self, video_id: str, segment_id: str | None, operation_key: str) -> Sequence[LlmCallRow]:
        """Calls of earlier attempts whose answer, good or failed, is not in the operation cache, newest first. The records
        of a shard are read once."""
        if self._attempt == 1:
            return ()
        shard = self._shard_of(video_id)
        if shard not in self._unkept:
            await asyncio.to_thread(self._read_unkept, shard)
        ignored_until = self._repeat_failed_until(video_id, segment_id)
        found = self._unkept[shard].get(operation_key, ())
        return [call for attempt, call in found if call.status == "success" or attempt > ignored_until]

    def _read_unkept(self, shard: int) -> None:
        with self._reading:
            if shard not in self._unkept:
                self._unkept[shard] = unkept_answers(self._storage, self._run_id, shard)

    def _name(self, video_id: str) -> str:
        return f"{self._folder}/{_shard_folder(self._shard_of(video_id))}/{self._worker}.jsonl"

    def _append(self, event: str, call: LlmCallRow) -> None:
        name = self._name(call.video_id)
        line = json.dumps({"event": event, "call": asdict(call)}, ensure_ascii=False)
        with self._lock:
            self._unsynced.add(name)
            self._storage.append_line(name, line.encode("utf-8", "replace"))


def read_calls(storage: Storage, run_id: str, shard: int) -> dict[str, LlmCallRow]:
    """The calls of one shard of a run, over all its attempts, by call id. One that never ended has the status
    "interrupted"."""
    return {call.llm_call_id: call for _, call in _numbered_calls(storage, run_id, shard)}


def unkept_answers(storage: Storage, run_id: str, shard: int) -> dict[str, list[tuple[int, LlmCallRow]]]:
    """The calls of one shard that brought an answer, with their attempt's number, newest first, by the key of an operation
    that the cache does not hold."""
    found: dict[str, list[tuple[int, LlmCallRow]]] = {}
    calls = _numbered_calls(storage, run_id, shard)
    for attempt, call in sorted(calls, key=lambda entry: (entry[0], entry[1].invoked_at), reverse=True):
        if _has_answer(call):
            found.setdefault(call.operation_key, []).append((attempt, call))
    return {key: calls for key, calls in found.items() if not storage.exists(layout.operation_file(key))}


def spent_tokens(storage: Storage, run_id: str) -> int:
    """Tokens that all calls of a run have used up so far."""
    shards = storage.list_names(layout.calls_folder(run_id))
    return sum(call.total_tokens for shard in shards for call in read_calls(storage, run_id, int(shard)).values())


def _has_answer(call: LlmCallRow) -> bool:
    """Whether a call brought an answer that is paid for, good or failed."""
    failure = FAILURE_CODES.get(call.code or "")
    return bool(call.status == "success" and call.response_text) or (failure is not None and failure.is_paid_answer)


def _sync_file(path: Path) -> None:
    with storage_errors("sync", path), path.open("rb") as file:
        os.fsync(file.fileno())


def _shard_folder(shard: int) -> str:
    return f"{shard:05d}"


def _numbered_calls(storage: Storage, run_id: str, shard: int) -> list[tuple[int, LlmCallRow]]:
    """(attempt, call) of every call of one shard; one that never ended has the status "interrupted"."""
    calls: dict[str, tuple[int, LlmCallRow]] = {}
    for attempt, line in _numbered_lines(storage, f"{layout.calls_folder(run_id)}/{_shard_folder(shard)}"):
        try:
            entry = json.loads(line)
            call = LlmCallRow(**entry["call"])
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a killed process may be torn; its call then reads as interrupted
        if entry["event"] == "end" or call.llm_call_id not in calls:
            calls[call.llm_call_id] = (attempt, call)
    return list(calls.values())


def _numbered_lines(storage: Storage, folder: str) -> Iterator[tuple[int, bytes]]:
    """(attempt, line) of every worker's file: its name begins with the number of the attempt."""
    for name in storage.list_names(folder):
        attempt = int(name.split("-", 1)[0])
        if isinstance(storage, LocalStorage):
            with storage.local_file(f"{folder}/{name}").open("rb") as file:
                for line in file:
                    yield attempt, line
        else:
            for entry in storage.list_names(f"{folder}/{name}"):
                yield attempt, storage.read_bytes(f"{folder}/{name}/{entry}")
