"""Starts of the runner on one run folder, numbered; on a local disk a lock keeps two from working at once."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from schemas.errors import RunError
from tables import layout
from tables.storage import LocalStorage, Storage


def begin_attempt(storage: Storage, run_id: str) -> int:
    """Takes the next attempt number; each is given once."""
    content = {"host": socket.gethostname(), "pid": os.getpid(), "started_at": datetime.now(UTC).isoformat()}
    while True:
        number = len(storage.list_names(layout.attempts_folder(run_id))) + 1
        name = f"{layout.attempts_folder(run_id)}/{number:06d}.json"
        if storage.create_exclusive(name, json.dumps(content).encode()):
            return number


@contextmanager
def runner_lock(storage: Storage, run_id: str) -> Iterator[None]:
    """Holds the run folder for this process. The operating system drops the lock when the process dies.

    Raises:
        RunError: another process works on the run. (An object store has no such lock: there the attempt number and
            the exclusive manifest decide.)
    """
    if not isinstance(storage, LocalStorage):
        yield
        return
    path = storage.path / layout.run_folder(run_id) / "runner.lock"
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"run {run_id}: another process is working on it; wait for it or stop it first") from error
        yield


def is_running(storage: Storage, run_id: str) -> bool:
    """Whether a process of this machine holds the run's lock."""
    if not isinstance(storage, LocalStorage) or not storage.exists(f"{layout.run_folder(run_id)}/runner.lock"):
        return False
    try:
        with runner_lock(storage, run_id):
            return False
    except RunError:
        return True
