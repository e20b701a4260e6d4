"""The service's settings, from the environment; secrets are never printed."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from promptreel.schemas.errors import SettingsError


@dataclass(frozen=True)
class RateLimitSettings:
    """Requests that one account may make, by category, in a minute; an hour allows forty times as many."""

    search: int = 600
    read: int = 6000
    write: int = 1200
    upload: int = 120

    HOUR_FACTOR = 40


@dataclass(frozen=True)
class ApiConfig:
    """What the service runs with.

    Attributes:
        data_dir: data folder of runs, tables and uploads: a path or an fsspec URL.
        database_url: SQLAlchemy URL; SQLite inside the data folder where it is empty.
        media_roots: folders under which `file://` media may be registered.
        media_buckets: `gs://` and `s3://` buckets from which media may be registered, e.g. "gs://my-bucket".
        allow_https: whether `https://` media may be registered (fetched through a guard against private addresses).
        default_model: model of a run that names none.
        models: models that a run may name; empty allows every one that a provider answers for.
        model_aliases: names that clients use for models, e.g. those of the hosted product.
        model_base_url: address of the model service; None is the library's own.
        max_running: runs that are executed at once; others wait.
        max_resumes: how often a runner that died is started again to go on; after that it is started once more, only to
            commit what is stored.
        max_upload_bytes, max_media_seconds, max_run_items, max_run_segments, max_run_tokens: limits of one upload, item
            and run; `max_run_tokens` None has no limit.
        run_deadline_s: seconds after which a run makes no further call; None has no limit.
        heartbeat_s: how often a supervisor shows that it is alive; five silent beats end its lease.
        supervise: whether this process executes runs, or only serves requests.
        header_timeout_s: seconds that a client has to send the head of a request; see `BoundedHttpProtocol`.
    """

    data_dir: str = "promptreel-data"
    database_url: str = field(default="", repr=False)
    media_roots: tuple[Path, ...] = ()
    media_buckets: tuple[str, ...] = ()
    allow_https: bool = True
    default_model: str | None = None
    models: tuple[str, ...] = ()
    model_aliases: Mapping[str, str] = field(default_factory=dict)
    model_base_url: str | None = None
    max_running: int = 2
    max_resumes: int = 3
    max_upload_bytes: int = 4 << 30
    max_media_seconds: float = 12 * 3600
    max_run_items: int = 10_000
    max_run_segments: int = 1_000_000
    max_run_tokens: int | None = None
    run_deadline_s: float | None = None
    heartbeat_s: float = 2.0
    supervise: bool = True
    rate_limits: RateLimitSettings = RateLimitSettings()
    public_url: str = ""
    strict_models: bool = False
    header_timeout_s: float = 15.0

    @property
    def sqlalchemy_url(self) -> str:
        """The database's address, with its driver."""
        if self.database_url:
            for plain in ("postgres://", "postgresql://"):
                if self.database_url.startswith(plain):
                    return "postgresql+psycopg://" + self.database_url.removeprefix(plain)
            return self.database_url
        if "://" in self.data_dir:
            raise SettingsError(f"the data folder {self.data_dir} is no local one: set DATABASE_URL")
        return f"sqlite:///{Path(self.data_dir).absolute() / 'promptreel.db'}"


def config_from_environment(environment: Mapping[str, str] | None = None) -> ApiConfig:
    """Reads the settings; `PROMPTREEL_` precedes every name but DATABASE_URL.

    Raises:
        SettingsError: a value cannot be read; the message names its variable.
    """
    values = os.environ if environment is None else environment

    def text(name: str, default: str = "") -> str:
        return values.get(f"PROMPTREEL_{name}", default)

    def number(name: str, default: float, least: float = -math.inf, most: float = math.inf) -> float:
        given = text(name)
        try:
            value = float(given) if given else default
        except ValueError as error:
            raise SettingsError(f"PROMPTREEL_{name} is {given!r}; it must be a number") from error
        if (least, most) != (-math.inf, math.inf) and not least <= value <= most:
            raise SettingsError(f"PROMPTREEL_{name} is {given}; it must be between {least:g} and {most:g}")
        return value

    def words(name: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text(name).split(",") if part.strip())

    def flag(name: str, default: bool) -> bool:
        given = text(name).lower()
        if given not in ("", "0", "1", "true", "false", "yes", "no"):
            raise SettingsError(f"PROMPTREEL_{name} is {given!r}; it must be true or false")
        return given in ("1", "true", "yes") if given else default

    limits = RateLimitSettings()
    return ApiConfig(
        data_dir=text("DATA", "promptreel-data"),
        database_url=values.get("DATABASE_URL", ""),
        media_roots=tuple(Path(part).expanduser().resolve() for part in words("MEDIA_ROOTS")),
        media_buckets=words("MEDIA_BUCKETS"),
        allow_https=flag("ALLOW_HTTPS", True),
        default_model=text("MODEL") or None,
        models=words("ALLOWED_MODELS"),
        model_aliases=dict(pair.split("=", 1) for pair in words("MODEL_ALIASES") if "=" in pair),
        model_base_url=text("MODEL_BASE_URL") or None,
        max_running=int(number("MAX_RUNNING", 2)),
        max_resumes=int(number("MAX_RESUMES", 3)),
        max_upload_bytes=int(number("MAX_UPLOAD_BYTES", 4 << 30)),
        max_media_seconds=number("MAX_MEDIA_SECONDS", 12 * 3600),
        max_run_items=int(number("MAX_RUN_ITEMS", 10_000)),
        max_run_segments=int(number("MAX_RUN_SEGMENTS", 1_000_000)),
        max_run_tokens=int(number("MAX_RUN_TOKENS", 0)) or None,
        run_deadline_s=number("RUN_DEADLINE", 0) or None,
        heartbeat_s=number("HEARTBEAT", 2.0),
        supervise=flag("SUPERVISE", True),
        rate_limits=RateLimitSettings(
            search=int(number("RATE_SEARCH", limits.search)),
            read=int(number("RATE_READ", limits.read)),
            write=int(number("RATE_WRITE", limits.write)),
            upload=int(number("RATE_UPLOAD", limits.upload)),
        ),
        public_url=text("PUBLIC_URL").rstrip("/"),
        strict_models=flag("STRICT_MODELS", False),
        header_timeout_s=number("HEADER_TIMEOUT", 15.0, 0.1, 3600),
    )
