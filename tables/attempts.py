"""Starts of the runner on one run folder, numbered; on a local disk a lock keeps two from working at once."""

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
from promptreel.tables.runner_command import RUNNER_MODULE
from promptreel.tables.storage import LocalStorage, Storage

# A process that only checks whether a run is held holds it for that moment: a lock is refused after this time.
_PATIENCE_S: Final = 1.0
_TRY_EVERY_S: Final = 0.02


def begin_attempt(storage: Storage, run_id: str, tools: Mapping[str, Any] | None = None) -> int:
    """Takes the next attempt number; each is given once.

    Args:
        tools: programs of this machine that the results depend on, by name.
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
        until = time.monotonic() + _PATIENCE_S
        while not _try_lock(file, fcntl.LOCK_EX):
            if time.monotonic() > until:
                raise RunError(f"run {run_id}: another process is working on it; wait for it or stop it first")
            time.sleep(_TRY_EVERY_S)
        yield


def is_running(storage: Storage, run_id: str) -> bool:
    """Whether a process of this machine holds the run's lock."""
    if not isinstance(storage, LocalStorage):
        return False
    try:
        with (storage.path / layout.run_folder(run_id) / "runner.lock").open("rb") as file:
            return not _try_lock(file, fcntl.LOCK_SH)
    except (FileNotFoundError, NotADirectoryError):
        return False


def kill_runner(storage: Storage, run_id: str) -> bool:
    """Kills the process that works on a run; False where none does, or it is not surely that runner of this machine."""
    if not is_running(storage, run_id):
        return False
    try:
        begun = json.loads(storage.read_bytes(_attempt_file(run_id, last_attempt(storage, run_id))))
        if begun["host"] != socket.gethostname():
            return False
        arguments = Path(f"/proc/{begun['pid']}/cmdline").read_bytes().split(b"\0")
        if RUNNER_MODULE.encode() not in arguments or run_id.encode() not in arguments:
            return False  # the number is another process's by now
        os.kill(begun["pid"], signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True


def last_attempt(storage: Storage, run_id: str) -> int:
    """Number of the newest start of the runner; 0 before the first."""
    names = storage.list_names(layout.attempts_folder(run_id))  # files under construction among them
    return max((int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit()), default=0)


def _attempt_file(run_id: str, number: int) -> str:
    return f"{layout.attempts_folder(run_id)}/{number:06d}.json"


def _try_lock(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
