"""The database: accounts and what belongs to them. SQLite in WAL mode by default, PostgreSQL for several replicas.

Tables of results are not here: they are Parquet in the run folders. Every row but an account carries `account_id`, and every
query names it.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Row,
    Select,
    String,
    Text,
    create_engine,
    event,
)
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from promptreel.tables.private_files import restrict
from promptreel.tables.storage import PRIVATE_MODE

_BUSY_TIMEOUT_MS: Final = 30_000  # a writer waits this long for another one, then the request fails
_POOL_SIZE: Final = 20
_BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts by itself in an INTEGER key alone

T = TypeVar("T")


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSON,
        list[str]: JSON,
        str: String(255),
    }


class Account(Base):
    """Whom keys, prompts, media and runs belong to."""

    __tablename__ = "accounts"
    account_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime]


class ApiKey(Base):
    """A key, by the hash of its secret."""

    __tablename__ = "api_keys"
    key_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"), index=True)
    name: Mapped[str]
    key_hash: Mapped[str] = mapped_column(unique=True)
    key_prefix: Mapped[str]
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]


class MediaIndex(Base):
    """A container of media. A deleted one keeps its row, so that its deletion can be asked for."""

    __tablename__ = "indexes"
    index_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"), index=True)
    name: Mapped[str]
    description: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    deletion_id: Mapped[str | None]


class PromptRecord(Base):
    """A prompt; runs keep a copy of what it was."""

    __tablename__ = "prompts"
    prompt_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"), index=True)
    definition: Mapped[dict[str, Any]]
    is_active: Mapped[bool]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Video(Base):
    """A media item of any type. `media_uri` is where its bytes lie; `video_uri` is what the caller sees."""

    __tablename__ = "videos"
    __table_args__ = (Index("videos_of_index", "account_id", "index_id", "created_at", "video_id"),)
    video_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"))
    index_id: Mapped[str | None] = mapped_column(ForeignKey("indexes.index_id"))
    title: Mapped[str]
    video_uri: Mapped[str] = mapped_column(Text)
    media_uri: Mapped[str] = mapped_column(Text)
    source_kind: Mapped[str]
    media_type: Mapped[str]
    duration_us: Mapped[int | None] = mapped_column(BigInteger)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deletion_id: Mapped[str | None]


class PromptRun(Base):
    """One prompt run: what it was started with, how it stands, and who executes it.

    Attributes:
        summary: counters and flags of the wire's PromptRun beyond the columns; replaced as a whole.
        lease_owner, lease_fence, lease_beat: the supervisor that executes it, a number that rises with each new owner, and
            one that rises while the owner lives. Watchers compare beats by their own clocks, so no clock needs to be right.
        manifest_number: the committed manifest that `summary` was made from.
    """

    __tablename__ = "prompt_runs"
    __table_args__ = (
        Index("runs_of_account", "account_id", "created_at", "run_id"),
        Index("runs_of_index", "account_id", "index_id", "created_at", "run_id"),
        Index("runs_by_status", "status", "created_at"),
    )
    run_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"))
    key_id: Mapped[str | None]
    prompt_id: Mapped[str] = mapped_column(index=True)
    prompt_name: Mapped[str]
    prompt: Mapped[dict[str, Any]]
    settings: Mapped[dict[str, Any]]
    target: Mapped[dict[str, Any]]
    index_id: Mapped[str | None]
    status: Mapped[str]
    summary: Mapped[dict[str, Any]]
    error_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    stop_requested_at: Mapped[datetime | None]
    stop_requested_by: Mapped[str | None]
    stop_observed_at: Mapped[datetime | None]
    stop_completed_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None]
    lease_fence: Mapped[int] = mapped_column(default=0)
    lease_beat: Mapped[int] = mapped_column(BigInteger, default=0)
    starts: Mapped[int] = mapped_column(default=0)
    manifest_number: Mapped[int | None]


class RunItem(Base):
    """A media item of a run."""

    __tablename__ = "run_items"
    run_id: Mapped[str] = mapped_column(ForeignKey("prompt_runs.run_id"), primary_key=True)
    video_id: Mapped[str] = mapped_column(primary_key=True, index=True)
    position: Mapped[int]


class SegmentRetry(Base):
    """A retry of failed segments of a finished run. `scope` says which; one alone has `video_id` and `segment_id`."""

    __tablename__ = "segment_retries"
    __table_args__ = (Index("retries_by_status", "status", "created_at"),)
    retry_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"))
    run_id: Mapped[str] = mapped_column(ForeignKey("prompt_runs.run_id"), index=True)
    video_id: Mapped[str | None]
    segment_id: Mapped[str | None]
    scope: Mapped[dict[str, Any]]
    status: Mapped[str]
    outcome: Mapped[dict[str, Any]]
    idempotency_key: Mapped[str | None]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    starts: Mapped[int] = mapped_column(default=0)


class IdempotentAnswer(Base):
    """The first answer to a keyed request."""

    __tablename__ = "idempotent_answers"
    account_id: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(String(8), primary_key=True)
    path: Mapped[str] = mapped_column(String(512), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    content_hash: Mapped[str]
    status: Mapped[int]
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(index=True)


class Event(Base):
    """Something that happened to a run or a media item, in order."""

    __tablename__ = "events"
    __table_args__ = (Index("events_of_account", "account_id", "number"),)
    number: Mapped[int] = mapped_column(_BigId, primary_key=True, autoincrement=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"))
    event_type: Mapped[str]
    run_id: Mapped[str | None]
    video_id: Mapped[str | None]
    segment_id: Mapped[str | None]
    index_id: Mapped[str | None]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Export(Base):
    """A file of results that was asked for, and how far it is.

    Attributes:
        run_ids: the runs whose results it holds, in this order.
        params: what the caller sent; None where that was nothing.
        queue_status: queued, running, succeeded or dead_letter.
        file: name of the finished file in the data folder.
        lease_owner, lease_fence, lease_beat: the process that writes it, see PromptRun.
    """

    __tablename__ = "exports"
    __table_args__ = (
        Index("exports_of_account", "account_id", "created_at", "export_id"),
        Index("exports_by_queue", "queue_status", "available_at"),
    )
    export_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"))
    export_type: Mapped[str]
    target_id: Mapped[str]
    run_ids: Mapped[list[str]]
    params: Mapped[dict[str, Any] | None]
    queue_status: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    available_at: Mapped[datetime]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]
    file: Mapped[str | None]
    file_size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    last_error: Mapped[str | None] = mapped_column(Text)
    lease_owner: Mapped[str | None]
    lease_fence: Mapped[int] = mapped_column(default=0)
    lease_beat: Mapped[int] = mapped_column(BigInteger, default=0)


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
        for suffix in ("", "-wal", "-shm"):
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
