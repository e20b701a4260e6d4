"""Logs of lines: a folder with one file per worker. On an object store each file is a folder of objects."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from promptreel.schemas.errors import StorageError
from promptreel.tables.storage import LocalStorage, Storage

_FLUSH_INTERVAL_S: Final = 1.0
_OBJECT_FLUSH_INTERVAL_S: Final = 10.0  # every flush of a shard writes an object


def worker_name(attempt: int) -> str:
    """A unique name for the log file of a worker; it starts with the attempt."""
    return f"{attempt:06d}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


class BufferedLog:
    """Lines of one worker in one file per shard, written in batches by a background thread. Thread-safe.

    Lines of the last moments are lost if the process dies, and if storage fails: nothing depends on them.
    """

    def __init__(self, storage: Storage, folder: str, attempt: int) -> None:
        self._storage = storage
        self._folder = folder
        self._worker = worker_name(attempt)
        self._pending: defaultdict[int, list[bytes]] = defaultdict(list)
        self._lock = threading.Lock()
        self._dirty = threading.Event()
        self._interval_s = _FLUSH_INTERVAL_S if isinstance(storage, LocalStorage) else _OBJECT_FLUSH_INTERVAL_S
        threading.Thread(target=self._flush_forever, name="outcome log", daemon=True).start()

    def add(self, shard: int, line: bytes) -> None:
        """Add a line without a line break."""
        with self._lock:
            self._pending[shard].append(line)
        self._dirty.set()

    def flush(self) -> None:
        """Write all lines so far."""
        with self._lock:
            pending, self._pending = self._pending, defaultdict(list)
        for shard, lines in pending.items():
            try:
                self._storage.append_line(
                    f"{shard_folder(self._folder, shard)}/{self._worker}.jsonl", b"\n".join(lines)
                )
            except StorageError:
                continue

    def _flush_forever(self) -> None:
        pause = threading.Event()
        while True:
            self._dirty.wait()
            self._dirty.clear()
            pause.wait(self._interval_s)
            self.flush()


def shard_folder(folder: str, shard: int) -> str:
    """The folder of one shard of a log."""
    return f"{folder}/{shard:05d}"


def log_size(storage: Storage, folder: str) -> int:
    """A number that grows with every line: bytes on a local disk, objects on an object store."""
    names = storage.list_names(folder)
    if isinstance(storage, LocalStorage):
        return sum((storage.path / folder / name).stat().st_size for name in names)
    return sum(len(storage.list_names(f"{folder}/{name}")) for name in names)


def numbered_lines(storage: Storage, folder: str) -> Iterator[tuple[int, bytes]]:
    """(attempt, line) of every worker's file; file names start with the attempt number."""
    for name in storage.list_names(folder):
        attempt = int(name.split("-", 1)[0])
        if isinstance(storage, LocalStorage):
            with storage.local_file(f"{folder}/{name}").open("rb") as file:
                for line in file:
                    yield attempt, line
        else:
            for entry in storage.list_names(f"{folder}/{name}"):
                for line in storage.read_bytes(f"{folder}/{name}/{entry}").splitlines():
                    yield attempt, line
