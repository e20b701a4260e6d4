"""A pool of sandboxed processes: each runs one query and is killed at its deadline."""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from promptreel.api.sql.child import ANSWER_OVERHEAD_BYTES, READY
from promptreel.api.sql.landlock import landlock_version
from promptreel.api.sql.limits import SqlLimits
from promptreel.schemas.errors import PicklableError

_log = logging.getLogger(__name__)
_CHILD_CODE: Final = "from promptreel.api.sql.child import main; main()"
_START_TIMEOUT_S: Final = 30.0
_READ_BYTES: Final = 1 << 16


class SqlError(PicklableError):
    """A query that failed.

    Args:
        code: sql_rejected, sql_timeout, sql_too_large or sql_busy.
        message: the reason and how to fix it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Sandbox:
    """Runs each query in a separate process that exits afterwards. Thread-safe.

    Args:
        limits: resources of one query, and the numbers of concurrent queries and warm processes.
    """

    def __init__(self, limits: SqlLimits) -> None:
        self.limits = limits
        self._folder = tempfile.mkdtemp(prefix="promptreel-sql-")  # empty working folder of the processes
        self._ready: deque[_Child] = deque()
        self._starting = 0
        self._slots = threading.BoundedSemaphore(limits.running)
        self._admitted: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closed = False
        if landlock_version() == 0:
            _log.warning(
                "this kernel has no Landlock: SQL is protected only by DuckDB's file access settings and process limits"
            )

    def warm(self) -> None:
        """Start processes in the background until `limits.warm` are ready."""
        with self._lock:
            missing = 0 if self._closed else self.limits.warm - len(self._ready) - self._starting
            self._starting += max(0, missing)
        for _ in range(missing):
            threading.Thread(target=self._start_one, name="sql-warm", daemon=True).start()

    def run(
        self,
        query: str,
        views: Mapping[str, str],
        files: Sequence[str],
        *,
        row_limit: int,
        account: str = "",
        check_only: bool = False,
    ) -> dict[str, Any]:
        """Run one SELECT over the given views.

        Args:
            views: SQL of each view by name; the views read `files`.
            row_limit: maximum number of rows.
            account: account of the query; one account cannot use all slots.
            check_only: check and plan the query without running it.

        Returns:
            `columns`, `rows`, `truncated` and `tables` (the views that the query names); with `check_only` only `tables`.

        Raises:
            SqlError: the query is rejected, too large or too slow, or no slot is free.
        """
        limits = self.limits
        if len(query) > limits.max_query_chars:
            message = f"The query has {len(query)} characters; shorten it to at most {limits.max_query_chars}."
            raise SqlError("sql_too_large", message)
        request = {
            "query": query,
            "views": dict(views),
            "files": list(files),
            "row_limit": row_limit,
            "check_only": check_only,
            "limits": limits.to_child(),
        }
        content = json.dumps(request).encode()
        with self._slot(account):
            child = self._next_child()
            try:
                answer = child.run(content, limits)
            finally:
                child.end()
                self.warm()
        error = answer.get("error")
        if error is not None:
            raise SqlError(str(error["code"]), _error_message(error["code"], error["message"], limits))
        return answer

    def close(self) -> None:
        """Kill all warm processes; running ones exit with their queries."""
        with self._lock:
            self._closed = True
            ready, self._ready = list(self._ready), deque()
        for child in ready:
            child.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _slot(self, account: str) -> Iterator[None]:
        """Acquire a running slot, after a waiting slot.

        Raises:
            SqlError: sql_busy if no slot is free in time.
        """
        limits = self.limits
        max_admitted = limits.running + limits.waiting
        busy = SqlError("sql_busy", "Too many queries are running; try again in a moment.")
        with self._lock:
            if self._closed or self._admitted.total() >= max_admitted:
                raise busy
            if self._admitted[account] >= max(1, max_admitted // 2):
                raise busy
            self._admitted[account] += 1
        try:
            if not self._slots.acquire(timeout=2 * limits.timeout_s):
                raise busy
            try:
                yield
            finally:
                self._slots.release()
        finally:
            with self._lock:
                self._admitted[account] -= 1
                self._admitted += Counter()  # drops accounts with a count of zero

    def _next_child(self) -> _Child:
        """Return a warm process, or start one if none is ready."""
        while True:
            with self._lock:
                child = self._ready.popleft() if self._ready else None
            if child is None:
                return _Child(self._folder, self.limits)
            if child.is_alive():
                return child
            child.end()

    def _start_one(self) -> None:
        child = None
        try:
            child = _Child(self._folder, self.limits)
        except (OSError, SqlError) as error:
            if not self._closed:
                _log.error("cannot start an SQL process: %s", error)
        finally:
            with self._lock:
                self._starting -= 1
                if child is not None and not self._closed:
                    self._ready.append(child)
                    child = None
        if child is not None:
            child.end()


class _Child:
    """One process, from its start until it is reaped. The constructor waits until it is ready."""

    def __init__(self, folder: str, limits: SqlLimits) -> None:
        command = [sys.executable, "-I", "-c", _CHILD_CODE, str(limits.memory_bytes)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={},
            close_fds=True,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._input, False)
        if self._read_until(time.monotonic() + _START_TIMEOUT_S, len(READY)) != READY:
            self.end()
            raise SqlError("sql_busy", "The process for the query did not start; try again in a moment.")

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def run(self, content: bytes, limits: SqlLimits) -> dict[str, Any]:
        """Send the request and read the answer until the deadline.

        Raises:
            SqlError: the process did not answer in time, or exited without an answer.
        """
        deadline = time.monotonic() + limits.timeout_s
        timeout = SqlError(
            "sql_timeout",
            f"The query was stopped after {limits.timeout_s:g} s; read fewer rows, or filter before joining.",
        )
        try:
            self._write(content, deadline)
        except BrokenPipeError:
            pass  # it has exited; its output or exit status gives the reason
        if time.monotonic() >= deadline:
            raise timeout
        answer = self._read_until(deadline, limits.max_answer_bytes + ANSWER_OVERHEAD_BYTES)
        if answer is None:
            raise timeout
        try:
            return dict(json.loads(answer))
        except (ValueError, TypeError):
            raise self._missing_answer_error(timeout) from None

    def end(self) -> None:
        """Kill the process and its session, and reap it."""
        if self.is_alive():  # otherwise the id may belong to another process
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()  # type: ignore[union-attr]
            except OSError:
                pass
        threading.Thread(target=self._process.wait, name="sql-reap", daemon=True).start()

    def _write(self, content: bytes, deadline: float) -> None:
        rest = memoryview(content)
        poller = select.poll()
        poller.register(self._input, select.POLLOUT)
        while rest and (left := deadline - time.monotonic()) > 0:
            if poller.poll(left * 1000):
                rest = rest[os.write(self._input, rest) :]
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _read_until(self, deadline: float, max_bytes: int) -> bytes | None:
        """Read up to the end or `max_bytes`; return None at the deadline."""
        chunks, size = [], 0
        poller = select.poll()
        poller.register(self._output, select.POLLIN)
        while size < max_bytes:
            left = deadline - time.monotonic()
            if left <= 0 or not poller.poll(left * 1000):
                return None
            chunk = os.read(self._output, min(_READ_BYTES, max_bytes - size))
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks)

    def _missing_answer_error(self, timeout: SqlError) -> SqlError:
        """Return the reason why a process exited without a complete answer."""
        try:
            status = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return SqlError("sql_too_large", "The response exceeds the size limit; select fewer or shorter columns.")
        if status in (-signal.SIGXCPU, -signal.SIGALRM):
            return timeout
        message = (
            f"The query crashed its process ({_exit_reason(status)}), probably because it exceeded the memory limit"
        )
        return SqlError("sql_too_large", f"{message}; read fewer rows, or build smaller values.")


def _exit_reason(status: int) -> str:
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"exit code {status}"


def _error_message(code: str, message: str, limits: SqlLimits) -> str:
    if code == "sql_too_large" and not message:
        memory = f"{limits.table_bytes >> 20} MiB of tables, {limits.memory_bytes >> 20} MiB in total"
        return f"The query exceeds the memory limit ({memory}); read fewer rows, or build smaller values."
    return message
