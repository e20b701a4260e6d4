"""What a child process costs: CPU seconds of it and its children, wall time, peak memory by program."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SAMPLE_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took.

    Attributes:
        cpu_s: user and system CPU seconds of it and of every descendant that was waited for.
        wall_s: seconds from its start to its end.
        output: what it wrote to standard output.
    """

    cpu_s: float
    wall_s: float
    output: str


def run_measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Runs a command to its end.

    Raises:
        RuntimeError: it failed; the message holds the end of what it wrote to standard error.
    """
    begun = time.monotonic()
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
    except BaseException:  # a benchmark that is interrupted leaves nothing running
        process.kill()
        raise
    wall_s = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    if process.returncode != 0:
        message = b"".join(errors).decode("utf-8", "replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)[:300]} ended with exit code {process.returncode}: {message}")
    return Cost(usage.ru_utime + usage.ru_stime, wall_s, output.decode("utf-8", "replace"))


def cpu_seconds(pid: int) -> float:
    """User and system CPU seconds that a process on Linux has taken so far, without its children."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


class MemoryWatch:
    """Follows the memory of a process and its descendants while the `with` block lasts.

    Attributes:
        peaks: bytes by program, of the largest process of that name: the kernel's own high-water mark of resident memory
            (VmHWM), which no sample can miss but that of a process that lives for less than the sampling interval.
        peak_sum: bytes, the largest sum over the tree in one sample; pages that processes share count for each.
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
                found = _memory_of(pid)
                # Between fork and exec a child still is its parent, memory and all.
                if found is not None and (pid == self._root or command != _command(self._root)):
                    name, peak, now = found
                    name = "runner" if pid == self._root else name
                    self.peaks[name] = max(self.peaks.get(name, 0), peak)
                    total += now
            self.peak_sum = max(self.peak_sum, total)
            self._end.wait(_SAMPLE_EVERY_S)


def _tree(root: int) -> list[int]:
    """A process and its descendants, as Linux lists them."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                waiting += [int(word) for word in children.read_text().split()]
            except OSError:
                continue
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _memory_of(pid: int) -> tuple[str, int, int] | None:
    """(program, peak, now) of one process, in bytes; None once it has ended."""
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
