"""The runner's log: in the run folder on a local disk, otherwise a temporary file on this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO, Final

from promptreel.tables.layout import log_file
from promptreel.tables.storage import LocalStorage, Storage

_TAIL_BYTES: Final = 20_000


def open_runner_log(storage: Storage, run_id: str) -> IO[bytes]:
    """Open the log for appending."""
    if isinstance(storage, LocalStorage):
        path = storage.path / log_file(run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    return (Path(tempfile.gettempdir()) / f"promptreel-{run_id}-{os.getpid()}.log").open("ab")


def last_runner_error(storage: Storage, run_id: str) -> str | None:
    """Return the last error in the runner's log; None if there is no error or no log on this machine."""
    if not isinstance(storage, LocalStorage):
        return None
    try:
        with (storage.path / log_file(run_id)).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            tail = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    errors = [line.removeprefix("error: ") for line in tail.splitlines() if line.startswith("error: ")]
    return errors[-1] if errors else None
