"""A pool of locked-down processes that stand ready, each for one query of one caller, and the deadline that ends them."""

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

from promptreel.api.sql.child import READY, ROOM_FOR_THE_REST
from promptreel.api.sql.landlock import landlock_version
from promptreel.api.sql.limits import SqlLimits
from promptreel.schemas.errors import PicklableError

_log = logging.getLogger(__name__)
_START: Final = "from promptreel.api.sql.child import main; main()"
_START_DEADLINE_S: Final = 30.0
_READ_BYTES: Final = 1 << 16


class SqlError(PicklableError):
    """A query that was not answered.

    Args:
        code: sql_rejected, sql_timeout, sql_too_large or sql_busy.
        message: why, and the fix.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Sandbox:
    """Runs queries, each in a process that answers this one and ends. Thread-safe.

    Args:
        limits: what one query may use, and how many processes work and stand ready.
    """

    def __init__(self, limits: SqlLimits) -> None:
        self.limits = limits
        self._folder = tempfile.mkdtemp(prefix="promptreel-sql-")  # an empty place to stand in
        self._ready: deque[_Child] = deque()
        self._starting = 0
        self._slots = threading.BoundedSemaphore(limits.running)
        self._admitted: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closed = False
        if landlock_version() == 0:
            _log.warning(
                "this kernel has no Landlock: SQL runs with DuckDB's own guard of files and process limits alone"
            )

    def warm(self) -> None:
        """Starts processes in the background until enough of them stand ready."""
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
        """Runs one SELECT over the given views and no others.

        Args:
            views: SQL of each view by its name; they read `files`.
            row_limit: rows of the answer at most.
            account: whose query it is: one account cannot take every place.
            check_only: the query is checked and planned, and not run.

        Returns:
            `columns`, `rows`, `truncated` and `tables` (of the views, those that the query names); only `tables` where it is
            checked alone.

        Raises:
            SqlError: it is refused, too large, too slow, or there is no place.
        """
        limits = self.limits
        if len(query) > limits.max_query_chars:
            message = f"the query has {len(query)} characters; {limits.max_query_chars} are the most. Shorten it"
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
        with self._place(account):
            child = self._take()
            try:
                answer = child.ask(content, limits)
            finally:
                child.end()
                self.warm()
        error = answer.get("error")
        if error is not None:
            raise SqlError(str(error["code"]), _message(error["code"], error["message"], limits))
        return answer

    def close(self) -> None:
        """Ends every process that stands ready; those at work end with their queries."""
        with self._lock:
            self._closed = True
            ready, self._ready = list(self._ready), deque()
        for child in ready:
            child.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _place(self, account: str) -> Iterator[None]:
        """A place among those at work, after a place among those that wait."""
        limits = self.limits
        most = limits.running + limits.waiting
        busy = SqlError("sql_busy", "too many queries are at work; send it again in a moment")
        with self._lock:
            if self._closed or self._admitted.total() >= most or self._admitted[account] >= max(1, most // 2):
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
                self._admitted += Counter()  # forgets accounts that have none

    def _take(self) -> _Child:
        """A process that stands ready; a new one where none does."""
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
                _log.error("a process for SQL could not be started: %s", error)
        finally:
            with self._lock:
                self._starting -= 1
                if child is not None and not self._closed:
                    self._ready.append(child)
                    child = None
        if child is not None:
            child.end()


class _Child:
    """One process, from its start until it is reaped. It stands ready once this is made."""

    def __init__(self, folder: str, limits: SqlLimits) -> None:
        command = [sys.executable, "-I", "-c", _START, str(limits.memory_bytes)]
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
        if self._read_until(time.monotonic() + _START_DEADLINE_S, len(READY)) != READY:
            self.end()
            raise SqlError("sql_busy", "the process for the query did not start; send it again in a moment")

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, content: bytes, limits: SqlLimits) -> dict[str, Any]:
        """Hands the request over, and reads the answer until the deadline.

        Raises:
            SqlError: the process did not answer in time, or ended without an answer.
        """
        deadline = time.monotonic() + limits.timeout_s
        late = SqlError(
            "sql_timeout",
            f"the query was stopped after {limits.timeout_s:g} s; read fewer rows, or filter before joining",
        )
        try:
            self._write(content, deadline)
        except BrokenPipeError:
            pass  # it has ended; what it left to read says more
        if time.monotonic() >= deadline:
            raise late
        most = limits.max_answer_bytes + ROOM_FOR_THE_REST
        answer = self._read_until(deadline, most)
        if answer is None:
            raise late
        try:
            return dict(json.loads(answer))
        except (ValueError, TypeError):
            raise self._no_answer(late) from None

    def end(self) -> None:
        """Kills the process and its session, and reaps it. Nothing is left of it."""
        if self.is_alive():  # only then is the id surely its own
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()  # type: ignore[union-attr]
            except OSError:
                pass
        threading.Thread(target=self._process.wait, name="sql-reap", daemon=True).start()

    def _write(self, content: bytes, deadline: float) -> None:
        rest = memoryview(content)
        waiting = select.poll()
        waiting.register(self._input, select.POLLOUT)
        while rest and (left := deadline - time.monotonic()) > 0:
            if waiting.poll(left * 1000):
                rest = rest[os.write(self._input, rest) :]
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _read_until(self, deadline: float, most: int) -> bytes | None:
        """What comes until the end, or until so many bytes are there; None where the deadline comes first."""
        parts, size = [], 0
        waiting = select.poll()
        waiting.register(self._output, select.POLLIN)
        while size < most:
            left = deadline - time.monotonic()
            if left <= 0 or not waiting.poll(left * 1000):
                return None
            part = os.read(self._output, min(_READ_BYTES, most - size))
            if not part:
                break
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def _no_answer(self, late: SqlError) -> SqlError:
        """Why a process ended without a whole answer."""
        try:
            status = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return SqlError("sql_too_large", "the answer is larger than it may be; select fewer or shorter columns")
        if status in (-signal.SIGXCPU, -signal.SIGALRM):
            return late
        message = f"the query ended its own process ({_ending(status)}): it needs more memory than it may have"
        return SqlError("sql_too_large", f"{message}; read fewer rows, or make smaller values")


def _ending(status: int) -> str:
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"exit code {status}"


def _message(code: str, message: str, limits: SqlLimits) -> str:
    if code == "sql_too_large" and not message:
        memory = f"{limits.table_bytes >> 20} MiB of tables, {limits.memory_bytes >> 20} MiB in all"
        return f"the query needs more memory than it may have ({memory}); read fewer rows, or make smaller values"
    return message
