"""Database connections: SQLite in WAL mode by default, PostgreSQL for several replicas."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from sqlalchemy import (
    Row,
    Select,
    create_engine,
    event,
)
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.orm import Session, sessionmaker

from promptreel.tables.private_files import restrict
from promptreel.tables.storage import PRIVATE_MODE

_BUSY_TIMEOUT_MS: Final = 30_000  # a writer waits this long for another, then the request fails
_POOL_SIZE: Final = 20
MIGRATION_LOCK: Final = ".migrating"  # suffix of a SQLite database's lock file

T = TypeVar("T")


class Database:
    """An engine with its read and write transactions."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        # SQLite waits for its write lock by polling; within a process this lock avoids that. It is reentrant so that a
        # nested write, which would be a defect, fails at SQLite's timeout instead of deadlocking.
        self._write_lock: AbstractContextManager[Any] = threading.RLock() if self.is_sqlite else nullcontext()
        self._write_limiter = CapacityLimiter(1 if self.is_sqlite else _POOL_SIZE)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session for reading."""
        with self._sessions() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction; commit it at the end of the block, or roll it back if the block raises.

        On SQLite it takes the write lock at the start, so that it never fails later and needs a retry.
        """
        with self._write_lock, self._sessions() as session:
            if self.is_sqlite:
                session.connection(execution_options={"begin_immediate": True})
            yield session
            session.commit()

    async def run_write(self, write: Callable[..., T], *arguments: Any) -> T:
        """Run a writing function in a thread. On SQLite, which has one writer, other calls wait as coroutines in FIFO
        order: waiting threads would slow down the active one."""
        return await to_thread.run_sync(functools.partial(write, *arguments), limiter=self._write_limiter)

    async def look_up(self, statement: Select[Any], parameters: Mapping[str, Any]) -> Row[Any] | None:
        """Return the row with a key, or None.

        SQLite is queried in the event loop: that takes less time than switching threads, and never waits for a writer.
        PostgreSQL is queried in a thread.
        """
        if self.is_sqlite:
            return self._look_up(statement, parameters)
        return await to_thread.run_sync(self._look_up, statement, parameters)

    def _look_up(self, statement: Select[Any], parameters: Mapping[str, Any]) -> Row[Any] | None:
        with self.engine.connect() as connection:
            return connection.execute(statement, parameters).one_or_none()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _restrict_sqlite_file(url: str) -> None:
    """Create a SQLite database with mode 0600, or restrict an existing one to it. SQLite creates its -wal and -shm
    files with the mode of the database."""
    name = make_url(url).database
    if not name or name == ":memory:":
        return
    with suppress(OSError):  # SQLite reports a better error when it opens the file
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(name, os.O_CREAT | os.O_RDWR, PRIVATE_MODE))
    for suffix in ("", "-wal", "-shm", MIGRATION_LOCK):
        restrict(Path(name + suffix))


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_size=_POOL_SIZE, max_overflow=40, pool_pre_ping=True)
    _restrict_sqlite_file(url)
    engine = create_engine(url, connect_args={"check_same_thread": False}, pool_size=_POOL_SIZE, max_overflow=60)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # `_begin` starts transactions, not the driver
        for pragma in (f"busy_timeout={_BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "checkin")
    def _roll_back(connection: Any, record: Any) -> None:
        # A failed COMMIT (a full disk) may leave its transaction open and the write lock taken.
        if connection is not None and connection.in_transaction:
            connection.rollback()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        if connection.get_execution_options().get("begin_immediate"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:  # takes no lock and cannot fail; calling the driver directly is much faster
            connection.connection.driver_connection.execute("BEGIN")

    return engine
