"""The database's connections: SQLite in WAL mode by default, PostgreSQL for several replicas."""

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

_BUSY_TIMEOUT_MS: Final = 30_000  # a writer waits this long for another one, then the request fails


_POOL_SIZE: Final = 20
MIGRATION_LOCK: Final = ".migrating"  # what the name of a SQLite database ends with in that of its lock file


T = TypeVar("T")


class Database:
    """One engine, and the two kinds of transactions over it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        # SQLite's own waiting is polling; writers of one process take turns without it. A writer inside another one would
        # be a defect: with an RLock it fails at SQLite's timeout, and does not wait for itself for ever.
        self._writer: AbstractContextManager[Any] = threading.RLock() if self.is_sqlite else nullcontext()
        self._turns = CapacityLimiter(1 if self.is_sqlite else _POOL_SIZE)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only reads."""
        with self._sessions() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is committed at the end of the block, or rolled back whole where the block raises.

        On SQLite it takes the one write lock at once, so that it never has to be begun again.
        """
        with self._writer, self._sessions() as session:
            if self.is_sqlite:
                session.connection(execution_options={"begin_immediate": True})
            yield session
            session.commit()

    async def in_turn(self, write: Callable[..., T], *arguments: Any) -> T:
        """Calls a function that writes, in a thread. Where only one can write the others wait as coroutines, in the order in
        which they came: threads that wait cost the one that works its time."""
        return await to_thread.run_sync(functools.partial(write, *arguments), limiter=self._turns)

    async def look_up(self, statement: Select[Any], parameters: Mapping[str, Any]) -> Row[Any] | None:
        """The one row that a statement finds by a key; None where there is none.

        On SQLite it is read at once: that takes less time than a change of threads, and never waits for a writer. A
        database server is asked from a thread.
        """
        if self.is_sqlite:
            return self._look_up(statement, parameters)
        return await to_thread.run_sync(self._look_up, statement, parameters)

    def _look_up(self, statement: Select[Any], parameters: Mapping[str, Any]) -> Row[Any] | None:
        with self.engine.connect() as connection:
            return connection.execute(statement, parameters).one_or_none()

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()


def _restrict_sqlite_file(url: str) -> None:
    """Creates a SQLite database with mode 0600, or narrows an existing one. SQLite gives its -wal and -shm files the mode
    of the database when it creates them."""
    name = make_url(url).database
    if not name or name == ":memory:":
        return
    with suppress(OSError):  # SQLite's own message says better why it cannot be opened
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
    def _settle(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # this module begins transactions, not the driver
        for pragma in (f"busy_timeout={_BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "checkin")
    def _end(connection: Any, record: Any) -> None:
        # A COMMIT that fails (a full disk) may leave its transaction open, with the one write lock.
        if connection is not None and connection.in_transaction:
            connection.rollback()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        if connection.get_execution_options().get("begin_immediate"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:  # takes no lock and cannot fail, so the driver alone may do it, which is much faster
            connection.connection.driver_connection.execute("BEGIN")

    return engine
