"""Measure child processes: CPU time including their children, wall time, and peak memory by program."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SAMPLE_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one process.

    Attributes:
        cpu_s: user and system CPU seconds of the process and of all descendants that were waited for.
        wall_s: seconds from start to exit.
        output: its standard output.
    """

    cpu_s: float
    wall_s: float
    output: str


def run_measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command and wait for its exit.

    Raises:
        RuntimeError: the command failed; the message has the end of its standard error.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    errors: list[bytes] = []
    assert process.stdout is not None
    assert process.stderr is not None
    reader = threading.Thread(target=lambda stream: errors.append(stream.read()), args=(process.stderr,))
    reader.start()
    try:
        output = process.stdout.read()
        reader.join()
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:  # an interrupted benchmark must not leave a process behind
        process.kill()
        raise
    wall_s = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    if process.returncode != 0:
        message = b"".join(errors).decode("utf-8", "replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)[:300]} failed with exit code {process.returncode}: {message}")
    return Cost(usage.ru_utime + usage.ru_stime, wall_s, output.decode("utf-8", "replace"))


def cpu_seconds(pid: int) -> float:
    """Return the user and system CPU seconds of a Linux process so far, without its children."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


class MemoryWatch:
    """Monitors the memory of a process and its descendants during the `with` block.

    Attributes:
        peaks: peak resident memory in bytes of the largest process of each program, as recorded by the kernel (VmHWM).
            Only processes that live for less than the sampling interval can be missed.
        peak_sum: largest total of the process tree in one sample, in bytes; shared pages count for each process.
    """

    def __init__(self, pid: int) -> None:
        self._root = pid
        self.peaks: dict[str, int] = {}
        self.peak_sum = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.is_set():
            total = 0
            for pid in _tree(self._root):
                command = _command(pid)
                memory = _memory_of(pid)
                # Between fork and exec, a child still has its parent's command line and memory.
                if memory is not None and (pid == self._root or command != _command(self._root)):
                    name, peak, current = memory
                    name = "runner" if pid == self._root else name
                    self.peaks[name] = max(self.peaks.get(name, 0), peak)
                    total += current
            self.peak_sum = max(self.peak_sum, total)
            self._end.wait(_SAMPLE_INTERVAL_S)


def _tree(root: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    pids, pending = [], [root]
    while pending:
        pid = pending.pop()
        pids.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                pending += [int(word) for word in children.read_text().split()]
            except OSError:
                continue
    return pids


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _memory_of(pid: int) -> tuple[str, int, int] | None:
    """Return (program, peak bytes, current bytes) of one process; None if it has exited."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    if "VmHWM" not in values:
        return None
    name = values["Name"].strip()
    name = "ffmpeg" if name.startswith("ffmpeg") else "probe" if name.startswith("python") else name
    return name, int(values["VmHWM"].split()[0]) * 1024, int(values["VmRSS"].split()[0]) * 1024
