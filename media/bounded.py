"""Child processes under limits of memory, file size and time, which the operating system enforces."""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Final

from promptreel.schemas.errors import MediaError

_STDERR_TAIL_BYTES: Final = 8192
_READ_BYTES: Final = 1 << 20
_LOOK_EVERY_S: Final = 0.25
_STALL_S: Final = 3.0  # a child that ran out of memory and then produces nothing for this long hangs
_GATHER_S: Final = 0.004  # what is written meanwhile is read together: a tenth of the reads, and of their cost

# How programs say that they were given no memory; the last is what a thread that cannot be started says.
_NO_MEMORY: Final = ("Cannot allocate memory", "bad_alloc", "Resource temporarily unavailable")

# The shell sets the limits and then becomes the command. Setting them in Python between fork and exec is not safe where
# other threads run.
_SHELL: Final = 'ulimit -c 0; ulimit -v "$1"; ulimit -f "$2"; shift 2; exec "$@"'


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use.

    Attributes:
        deadline_s: wall-clock seconds, then it and its children are killed.
        memory_bytes: address space.
        file_bytes: size of any one file that it writes.
    """

    deadline_s: float
    memory_bytes: int = 3 << 30
    file_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Completed:
    """A child that has ended: its exit code (negative for a signal) and the end of its messages."""

    returncode: int
    stderr: str
    lacks_memory: bool = False


class Stopped(Exception):
    """The child was killed because `should_stop` said so."""


class DeadlinePassed(Exception):
    """The child was killed at its deadline."""


def run_bounded(command: Sequence[str], limits: Limits) -> tuple[Completed, bytes]:
    """Runs a command to its end; returns how it ended and what it wrote to standard output.

    Raises:
        DeadlinePassed: it did not end in time.
    """
    output: list[bytes] = []
    process = _start(command, limits, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        done = _attend([process], {process.stdout.fileno(): output.append}, limits, None)
    return done, b"".join(output)


def stream_bounded(
    make_command: Callable[[Mapping[str, int]], Sequence[str]],
    sinks: Mapping[str, Callable[[bytes], None]],
    limits: Limits,
    should_stop: Callable[[], bool] | None = None,
    make_reader: Callable[[Mapping[str, int]], Sequence[str]] | None = None,
    on_messages: Callable[[bytes], None] | None = None,
) -> Completed:
    """Runs a command to its end, handing over what it writes as it comes. No pipe can block another.

    Args:
        make_command: makes the command from the file descriptors, by the sinks' names, that it shall write to.
        sinks: what takes the bytes that come out of each.
        make_reader: makes a second command, which runs beside the first under the same limits and reads what that one
            writes to standard output. The first failure of the two is the result.
        on_messages: receives what the first command writes to standard error.

    Raises:
        DeadlinePassed: it did not end in time.
        Stopped: `should_stop` said so.
        Exception: whatever a sink raises; the child is killed then.
    """
    pipes = {name: _wide_pipe() for name in sinks}
    try:
        try:
            writers = {name: pipe[1] for name, pipe in pipes.items()}
            commands = [make(writers) for make in (make_command, make_reader) if make is not None]
            processes = _start_pipeline(commands, limits, tuple(writers.values()))
        finally:
            for pipe in pipes.values():
                os.close(pipe[1])
        readers = {pipes[name][0]: sink for name, sink in sinks.items()}
        return _attend(processes, readers, limits, should_stop, on_messages)
    finally:
        for pipe in pipes.values():
            os.close(pipe[0])


def failure_of(done: Completed, what: str, default_code: str = "media_corrupt") -> MediaError:
    """The failure that a decoder's bad end means."""
    last = done.stderr.strip().splitlines()[-1:] or ["no message"]
    if done.lacks_memory or _lacks_memory(done.stderr):
        return MediaError("decode_out_of_memory", f"{what}: the decoder went over its memory limit ({last[0]})")
    if done.returncode == -signal.SIGKILL:
        message = f"{what}: the decoder was killed from outside, as systems do that run out of memory"
        return MediaError("decode_out_of_memory", message, retryable=True)
    if done.returncode == -signal.SIGXFSZ:
        return MediaError("media_too_large", f"{what}: the decoder wrote more than it may")
    end = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    return MediaError(default_code, f"{what}: cannot be decoded ({end}: {last[0]}); check that it plays, or convert it")


def _lacks_memory(message: str) -> bool:
    return any(sign in message for sign in _NO_MEMORY)


def _wide_pipe() -> tuple[int, int]:
    """A pipe that holds as much as one read takes, where the system allows it: fewer and larger reads."""
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _READ_BYTES)
    except (AttributeError, OSError):
        pass  # the system's own size works too
    return reader, writer


def _start_pipeline(
    commands: Sequence[Sequence[str]], limits: Limits, pass_fds: tuple[int, ...]
) -> list[subprocess.Popen[bytes]]:
    """Starts commands each of which reads what the one before it writes to standard output."""
    processes: list[subprocess.Popen[bytes]] = []
    source: int | IO[bytes] = subprocess.DEVNULL
    try:
        for command in commands:
            stdout = subprocess.DEVNULL if command is commands[-1] else subprocess.PIPE
            processes.append(_start(command, limits, stdin=source, stdout=stdout, pass_fds=pass_fds))
            source = processes[-1].stdout or subprocess.DEVNULL
    except BaseException:
        for process in processes:
            _end(process)
        raise
    finally:
        for process in processes:
            if process.stdout is not None:
                process.stdout.close()  # the next process has it
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
        env={"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )


def _attend(
    processes: Sequence[subprocess.Popen[bytes]],
    readers: Mapping[int, Callable[[bytes], None]],
    limits: Limits,
    should_stop: Callable[[], bool] | None,
    on_messages: Callable[[bytes], None] | None = None,
) -> Completed:
    """Reads everything that children write until they end, or ends them."""
    tails = {
        process.stderr.fileno(): _Tail(on_messages if process is processes[0] else None)
        for process in processes
        if process.stderr is not None
    }
    try:
        deadline = time.monotonic() + limits.deadline_s
        ended = _drain({**readers, **{end: tail.add for end, tail in tails.items()}}, deadline, should_stop, tails)
        for process in processes if ended else ():
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise DeadlinePassed from error
    finally:
        for process in processes:
            _end(process)
    failed = [process.returncode for process in processes if process.returncode != 0]
    messages = "".join(tail.text() for tail in reversed(tails.values()))
    lacks_memory = any(tail.lacks_memory for tail in tails.values())
    return Completed(failed[0] if failed else 0, messages, lacks_memory)


def _drain(
    readers: Mapping[int, Callable[[bytes], None]],
    deadline: float,
    should_stop: Callable[[], bool] | None,
    tails: Mapping[int, _Tail],
) -> bool:
    """Read until every pipe is closed; False if a child ran out of memory and has produced nothing since.

    ffmpeg's other threads then wait for the one that gave up, or it repeats the same error for ever.
    """
    progress_s = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for descriptor, sink in readers.items():
            selector.register(descriptor, selectors.EVENT_READ, sink)
        while selector.get_map():
            now = time.monotonic()
            if now > deadline:
                raise DeadlinePassed
            if any(tail.lacks_memory for tail in tails.values()) and now > progress_s + _STALL_S:
                return False
            if should_stop is not None and should_stop():
                raise Stopped
            ready = selector.select(_LOOK_EVERY_S)
            if ready:
                time.sleep(_GATHER_S)
            if any(key.fd not in tails for key, _ in ready):
                progress_s = time.monotonic()
            for key, _ in ready:
                block = os.read(key.fd, _READ_BYTES)
                if block:
                    key.data(block)
                else:
                    selector.unregister(key.fd)
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    _kill_group(process)
    process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the child and whatever it started and left running; its session is its own, so nobody else is hit."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # nobody of it is left


class _Tail:
    """The last bytes of a stream."""

    def __init__(self, on_block: Callable[[bytes], None] | None = None) -> None:
        self._bytes = b""
        self._on_block = on_block
        self.lacks_memory = False

    def add(self, block: bytes) -> None:
        self._bytes = (self._bytes + block)[-_STDERR_TAIL_BYTES:]
        self.lacks_memory = self.lacks_memory or _lacks_memory(self.text())
        if self._on_block is not None:
            self._on_block(block)

    def text(self) -> str:
        return self._bytes.decode("utf-8", "replace")
