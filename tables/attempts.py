"""Numbered attempts of the runner at a run; on a local disk, a lock allows one runner at a time."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from promptreel.schemas.errors import RunError
from promptreel.tables import layout
from promptreel.tables.numbered_files import numbered_name, numbers_in
from promptreel.tables.runner_command import RUNNER_MODULE
from promptreel.tables.storage import LocalStorage, Storage

# `is_running` takes the lock for an instant, so one failed try does not mean that another runner holds it.
_LOCK_TIMEOUT_S: Final = 1.0
_LOCK_RETRY_INTERVAL_S: Final = 0.02


def begin_attempt(storage: Storage, run_id: str, tools: Mapping[str, Any] | None = None) -> int:
    """Record a new attempt and return its number, which is unique within the run.

    Args:
        tools: programs on this machine that affect the results, and other facts to record, by name.
    """
    content = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started_at": datetime.now(UTC).isoformat(),
        **(tools or {}),
    }
    while True:
        number = last_attempt(storage, run_id) + 1
        if storage.create_exclusive(_attempt_file(run_id, number), json.dumps(content).encode()):
            return number


def read_attempt(storage: Storage, run_id: str, number: int) -> dict[str, Any]:
    """What an attempt recorded about itself; empty if its file is missing or unreadable."""
    try:
        return dict(json.loads(storage.read_bytes(_attempt_file(run_id, number))))
    except (FileNotFoundError, ValueError, TypeError):
        return {}


@contextmanager
def runner_lock(storage: Storage, run_id: str) -> Iterator[None]:
    """Lock the run for this process. The operating system releases the lock when the process dies.

    An object store has no such lock; there the attempt number and exclusive creation of manifests resolve conflicts.

    Raises:
        RunError: another process is working on the run.
    """
    if not isinstance(storage, LocalStorage):
        yield
        return
    path = storage.path / layout.run_folder(run_id) / "runner.lock"
    with path.open("ab") as file:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while not _try_lock(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise RunError(f"run {run_id}: another process is working on it; wait for it or stop it first")
            time.sleep(_LOCK_RETRY_INTERVAL_S)
        yield


def is_running(storage: Storage, run_id: str) -> bool:
    """Whether a process on this machine holds the run's lock."""
    if not isinstance(storage, LocalStorage):
        return False
    try:
        with (storage.path / layout.run_folder(run_id) / "runner.lock").open("rb") as file:
            return not _try_lock(file, fcntl.LOCK_SH)
    except (FileNotFoundError, NotADirectoryError):
        return False


def kill_runner(storage: Storage, run_id: str) -> bool:
    """Kill the runner of a run; return False if none is running or it cannot be identified on this machine."""
    if not is_running(storage, run_id):
        return False
    try:
        attempt = json.loads(storage.read_bytes(_attempt_file(run_id, last_attempt(storage, run_id))))
        if attempt["host"] != socket.gethostname():
            return False
        arguments = Path(f"/proc/{attempt['pid']}/cmdline").read_bytes().split(b"\0")
        if RUNNER_MODULE.encode() not in arguments or run_id.encode() not in arguments:
            return False  # the process id has been reused
        os.kill(attempt["pid"], signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True


def last_attempt(storage: Storage, run_id: str) -> int:
    """Number of the newest attempt; 0 before the first."""
    return max(numbers_in(storage, layout.attempts_folder(run_id)), default=0)


def _attempt_file(run_id: str, number: int) -> str:
    return numbered_name(layout.attempts_folder(run_id), number)


def _try_lock(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
