"""Database tables. Every row belongs to an account, and every query filters by `account_id`.

Results are not in the database: they are Parquet files in the run folders.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, validates

_BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite auto-increments only INTEGER keys


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSON,
        list[str]: JSON,
        str: String(255),
    }


class Account(Base):
    """The owner of keys, prompts, media and runs."""

    __tablename__ = "accounts"
    account_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime]


class ApiKey(Base):
    """An API key, identified by the hash of its secret."""

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
    """A collection of media. The row remains after deletion, so that its deletion status can be read."""

    __tablename__ = "indexes"
    index_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"), index=True)
    name: Mapped[str]
    description: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    deletion_id: Mapped[str | None]


class PromptRecord(Base):
    """A prompt; runs store a copy."""

    __tablename__ = "prompts"
    prompt_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"), index=True)
    definition: Mapped[dict[str, Any]]
    is_active: Mapped[bool]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class PromptVersionRecord(Base):
    """A content that the prompts of one name had. The versions of a name are numbered from 1 in the order of first use.

    Attributes:
        content_id: id derived from the definition.
    """

    __tablename__ = "prompt_versions"
    __table_args__ = (Index("version_of_content", "account_id", "name", "content_id", unique=True),)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content_id: Mapped[str]
    definition: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Video(Base):
    """A media item of any type. `media_uri` locates its bytes; `video_uri` is shown to the caller."""

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


class RunRecord(Base):
    """A prompt run: its settings, status and lease.

    Attributes:
        summary: counters and flags of `PromptRunBody` that have no column; assign a new dict to change it.
        lease_owner, lease_fence, lease_beat: the supervisor that executes the run, a number that rises with each new
            owner, and one that rises with each heartbeat. Other supervisors time heartbeats by their own monotonic
            clocks, so clocks need not agree.
        manifest_number: the committed manifest that `summary` was derived from.
        name, tags: labels of the run; None without, and in runs of earlier versions.
        prompt_version: see `PromptVersionRecord`.
        is_local: the run belongs to the command line: this service follows its folder, and executes only its retries.
        model: the model of `settings`, set with them.
    """

    __tablename__ = "prompt_runs"
    __table_args__ = (
        Index("runs_of_account", "account_id", "created_at", "run_id"),
        Index("runs_of_index", "account_id", "index_id", "created_at", "run_id"),
        Index("runs_by_status", "status", "created_at"),
        Index("models_of_account", "account_id", "model"),
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
    name: Mapped[str | None]
    tags: Mapped[dict[str, Any] | None]
    prompt_version: Mapped[int | None]
    is_local: Mapped[bool] = mapped_column(default=False, server_default=false())
    model: Mapped[str | None] = mapped_column(Text)

    @validates("settings")
    def _set_model(self, _: str, settings: dict[str, Any]) -> dict[str, Any]:
        self.model = settings["model"]["model"]
        return settings


class RunItem(Base):
    """A media item of a run's target."""

    __tablename__ = "run_items"
    run_id: Mapped[str] = mapped_column(ForeignKey("prompt_runs.run_id"), primary_key=True)
    video_id: Mapped[str] = mapped_column(primary_key=True, index=True)
    position: Mapped[int]


class RetryRecord(Base):
    """A retry of failed segments, see `scope`. Only a retry of one segment sets `video_id` and `segment_id`."""

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
    """The stored response to a request with an idempotency key."""

    __tablename__ = "idempotent_answers"
    account_id: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(String(8), primary_key=True)
    path: Mapped[str] = mapped_column(String(512), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    content_hash: Mapped[str]
    status: Mapped[int]
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(index=True)


class EventRecord(Base):
    """An event of a run or a media item; `number` gives the order."""

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
    """An export of results to a file, and its progress.

    Attributes:
        run_ids: the exported runs, in order.
        params: the request body; None if it was empty.
        queue_status: queued, running, succeeded or dead_letter.
        file: name of the finished file in the data folder.
        lease_owner, lease_fence, lease_beat: lease of the worker that writes it, see `RunRecord`.
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
