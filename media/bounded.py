"""Child processes with limits on memory, file size and time, enforced by the operating system."""

from __future__ import annotations

import fcntl
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Final

from promptreel.schemas.errors import MediaError, StorageError

_STDERR_TAIL_BYTES: Final = 8192
_READ_BYTES: Final = 1 << 20
_POLL_INTERVAL_S: Final = 0.25
_SILENCE_TIMEOUT_S: Final = 3.0  # a child that ran out of memory and prints nothing for this long is hung
_BATCH_DELAY_S: Final = 0.004  # lets output accumulate before each read: a tenth of the reads and of their cost

# How programs report failed allocations; the last one appears when a thread cannot be started.
_OUT_OF_MEMORY: Final = ("Cannot allocate memory", "bad_alloc", "Resource temporarily unavailable")
# How programs report that a disk is full, or the user's share of it.
_DISK_FULL: Final = re.compile("No space left on device|Disk quota exceeded")

# glibc reserves 64 MiB of address space for each arena, by default up to eight per core. Under the limit on address space,
# success would depend on the number of cores and on which threads allocate at the same time.
_MALLOC: Final = {"MALLOC_ARENA_MAX": "2"}

# The shell sets the limits, then execs the command. Setting them in Python between fork and exec is unsafe when other
# threads run.
_SHELL: Final = 'ulimit -c 0; ulimit -v "$1"; ulimit -f "$2"; shift 2; exec "$@"'


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits of a child process.

    Attributes:
        deadline_s: wall-clock seconds until the child and its descendants are killed.
        memory_bytes: address space.
        file_bytes: size of any single file the child writes.
    """

    deadline_s: float
    memory_bytes: int = 3 << 30
    file_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Completed:
    """The exit code of a child (negative for a signal) and the tail of its standard error."""

    returncode: int
    stderr: str
    is_out_of_memory: bool = False


class Stopped(Exception):
    """The child was killed because `should_stop` returned True."""


class DeadlinePassed(Exception):
    """The child was killed at its deadline."""


def run_bounded(
    command: Sequence[str], limits: Limits, should_stop: Callable[[], bool] | None = None
) -> tuple[Completed, bytes]:
    """Run a command to completion; return its result and its standard output.

    Raises:
        DeadlinePassed: the command did not exit in time.
        Stopped: `should_stop` returned True.
        StorageError: the command failed because the disk is full.
    """
    output: list[bytes] = []
    process = _start(command, limits, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        done = _supervise([process], {process.stdout.fileno(): output.append}, limits, should_stop)
    return done, b"".join(output)


def stream_bounded(
    build_command: Callable[[Mapping[str, int]], Sequence[str]],
    sinks: Mapping[str, Callable[[bytes], None]],
    limits: Limits,
    should_stop: Callable[[], bool] | None = None,
    build_reader: Callable[[Mapping[str, int]], Sequence[str]] | None = None,
    on_messages: Callable[[bytes], None] | None = None,
) -> Completed:
    """Run a command to completion, passing its output to sinks as it arrives. No pipe can block another.

    Args:
        build_command: builds the command, given the file descriptor to write to for each sink name.
        sinks: consumers of the bytes written to each descriptor.
        should_stop: polled several times a second; the command is killed when it returns True.
        build_reader: builds a second command that runs in parallel under the same limits and reads the first one's
            standard output. The result is the first failure of the two.
        on_messages: receives what the first command writes to standard error.

    Raises:
        DeadlinePassed: the command did not exit in time.
        Stopped: `should_stop` returned True.
        StorageError: a command failed because the disk is full.
        Exception: any exception of a sink; the child is killed.
    """
    pipes = {name: _wide_pipe() for name in sinks}
    try:
        try:
            writers = {name: pipe[1] for name, pipe in pipes.items()}
            commands = [build(writers) for build in (build_command, build_reader) if build is not None]
            processes = _start_pipeline(commands, limits, tuple(writers.values()))
        finally:
            for pipe in pipes.values():
                os.close(pipe[1])
        readers = {pipes[name][0]: sink for name, sink in sinks.items()}
        return _supervise(processes, readers, limits, should_stop, on_messages)
    finally:
        for pipe in pipes.values():
            os.close(pipe[0])


def failure_of(done: Completed, what: str, default_code: str = "media_corrupt") -> MediaError:
    """Return the error for a decoder that failed.

    Args:
        what: path or name of the media, for the message.
        default_code: error code if the failure was neither memory nor output size.
    """
    last = done.stderr.strip().splitlines()[-1:] or ["no message"]
    if done.is_out_of_memory or _is_out_of_memory(done.stderr):
        message = f"{what}: the decoder exceeded its memory limit ({last[0]}); scale the picture down"
        return MediaError("decode_out_of_memory", message)
    if done.returncode == -signal.SIGKILL:
        message = f"{what}: the system killed the decoder, probably because memory ran out; free memory and try again"
        return MediaError("decode_out_of_memory", message, retryable=True)
    if done.returncode == -signal.SIGXFSZ:
        return MediaError("media_too_large", f"{what}: the decoder exceeded its output size limit; split the file")
    status = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    message = f"{what}: cannot be decoded ({status}: {last[0]}); check that it plays, or convert it"
    return MediaError(default_code, message)


def _is_out_of_memory(message: str) -> bool:
    return any(fragment in message for fragment in _OUT_OF_MEMORY)


def _wide_pipe() -> tuple[int, int]:
    """Return a pipe whose buffer holds a full read where the system allows it: fewer, larger reads."""
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _READ_BYTES)
    except (AttributeError, OSError):
        pass  # the default size works too
    return reader, writer


def _start_pipeline(
    commands: Sequence[Sequence[str]], limits: Limits, pass_fds: tuple[int, ...]
) -> list[subprocess.Popen[bytes]]:
    """Start commands as a shell pipeline: each reads the standard output of the previous one."""
    processes: list[subprocess.Popen[bytes]] = []
    source: int | IO[bytes] = subprocess.DEVNULL
    try:
        for command in commands:
            stdout = subprocess.DEVNULL if command is commands[-1] else subprocess.PIPE
            processes.append(_start(command, limits, stdin=source, stdout=stdout, pass_fds=pass_fds))
            source = processes[-1].stdout or subprocess.DEVNULL
    except BaseException:
        for process in processes:
            _terminate(process)
        raise
    finally:
        for process in processes:
            if process.stdout is not None:
                process.stdout.close()  # the next process holds its own copy
    return processes


def _start(
    command: Sequence[str],
    limits: Limits,
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    pass_fds: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    memory_kib, file_blocks = str(limits.memory_bytes // 1024), str(limits.file_bytes // 512)
    return subprocess.Popen(
        ["/bin/sh", "-c", _SHELL, "sh", memory_kib, file_blocks, *command],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        pass_fds=pass_fds,
        env={"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **_MALLOC},
        start_new_session=True,
    )


def _supervise(
    processes: Sequence[subprocess.Popen[bytes]],
    readers: Mapping[int, Callable[[bytes], None]],
    limits: Limits,
    should_stop: Callable[[], bool] | None,
    on_messages: Callable[[bytes], None] | None = None,
) -> Completed:
    """Read everything the children write until they exit; kill them on any error."""
    tails = {
        process.stderr.fileno(): _Tail(on_messages if process is processes[0] else None)
        for process in processes
        if process.stderr is not None
    }
    try:
        deadline = time.monotonic() + limits.deadline_s
        is_drained = _drain({**readers, **{fd: tail.add for fd, tail in tails.items()}}, deadline, should_stop, tails)
        for process in processes if is_drained else ():
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise DeadlinePassed from error
    finally:
        for process in processes:
            _terminate(process)
    failed = [process.returncode for process in processes if process.returncode != 0]
    messages = "".join(tail.text() for tail in reversed(tails.values()))
    disk_full = next((tail.disk_full for tail in tails.values() if tail.disk_full), None)
    if failed and disk_full is not None:
        raise StorageError(f"cannot write what was decoded: {disk_full}; free space, then resume")
    is_out_of_memory = any(tail.is_out_of_memory for tail in tails.values())
    return Completed(failed[0] if failed else 0, messages, is_out_of_memory)


def _drain(
    readers: Mapping[int, Callable[[bytes], None]],
    deadline: float,
    should_stop: Callable[[], bool] | None,
    tails: Mapping[int, _Tail],
) -> bool:
    """Read until every pipe is closed; return False if a child ran out of memory and has produced nothing since.

    ffmpeg's other threads then wait for the one that failed, or it repeats the same error endlessly.
    """
    last_output = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for descriptor, sink in readers.items():
            selector.register(descriptor, selectors.EVENT_READ, sink)
        while selector.get_map():
            now = time.monotonic()
            if now > deadline:
                raise DeadlinePassed
            if any(tail.is_out_of_memory for tail in tails.values()) and now > last_output + _SILENCE_TIMEOUT_S:
                return False
            if should_stop is not None and should_stop():
                raise Stopped
            ready = selector.select(_POLL_INTERVAL_S)
            if ready:
                time.sleep(_BATCH_DELAY_S)
            if any(key.fd not in tails for key, _ in ready):
                last_output = time.monotonic()
            for key, _ in ready:
                block = os.read(key.fd, _READ_BYTES)
                if block:
                    key.data(block)
                else:
                    selector.unregister(key.fd)
    return True


def _terminate(process: subprocess.Popen[bytes]) -> None:
    _kill_group(process)
    process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the child and all its descendants. It runs in a separate session, so no other process is affected."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # all have exited


class _Tail:
    """Collects the last bytes of a stream."""

    def __init__(self, on_block: Callable[[bytes], None] | None = None) -> None:
        self._tail = b""
        self._on_block = on_block
        self.is_out_of_memory = False
        self.disk_full: str | None = None

    def add(self, block: bytes) -> None:
        self._tail = (self._tail + block)[-_STDERR_TAIL_BYTES:]
        self.is_out_of_memory = self.is_out_of_memory or _is_out_of_memory(self.text())
        if found := _DISK_FULL.search(self.text()):
            self.disk_full = found[0]
        if self._on_block is not None:
            self._on_block(block)

    def text(self) -> str:
        return self._tail.decode("utf-8", "replace")
