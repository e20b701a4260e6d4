"""The service's settings, from the environment; secrets are never printed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from promptreel.schemas.errors import SettingsError

PREFIX: Final = "PROMPTREEL_"


def _split(value: Any) -> Any:
    """The words of a text that separates them by commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _pairs(value: Any) -> Any:
    """`a=b,c=d` as a mapping."""
    if not isinstance(value, str):
        return value
    words = _split(value)
    if wrong := [word for word in words if "=" not in word]:
        raise ValueError(f"{wrong[0]!r} is not name=model")
    return dict(word.split("=", 1) for word in words)


def _none_if_zero(value: Any) -> Any:
    return None if value in ("0", 0) else value


def _absolute(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    return tuple(path.expanduser().resolve() for path in paths)


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Count = Annotated[int, Field(ge=1)]


class RateLimitSettings(BaseModel):
    """Requests that one account may make, by category, in a minute; an hour allows forty times as many."""

    HOUR_FACTOR: ClassVar[int] = 40
    model_config = ConfigDict(frozen=True, extra="forbid")

    search: Count = 600
    read: Count = 6000
    write: Count = 1200
    upload: Count = 120


class ApiConfig(BaseModel):
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
        max_image_megapixels: limit of width x height of an image, in millions of pixels.
        max_media_damage: share of an item, 0 to 1, that may be missing or concealed before it fails; 1 accepts any.
        run_deadline_s: seconds after which a run makes no further call; None has no limit.
        heartbeat_s: how often a supervisor shows that it is alive; five silent beats end its lease.
        supervise: whether this process executes runs, or only serves requests.
        header_timeout_s: seconds that a client has to send the head of a request; see `BoundedHttpProtocol`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    data_dir: str = Field(default="promptreel-data", validation_alias=f"{PREFIX}DATA")
    database_url: str = Field(default="", validation_alias="DATABASE_URL", repr=False)
    media_roots: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split), AfterValidator(_absolute)] = ()
    media_buckets: Words = ()
    allow_https: bool = True
    default_model: str | None = Field(default=None, validation_alias=f"{PREFIX}MODEL")
    models: Words = Field(default=(), validation_alias=f"{PREFIX}ALLOWED_MODELS")
    model_aliases: Annotated[Mapping[str, str], NoDecode, BeforeValidator(_pairs)] = Field(default_factory=dict)
    model_base_url: str | None = None
    max_running: Annotated[int, Field(ge=1, le=1000)] = 2
    max_resumes: Annotated[int, Field(ge=0, le=100)] = 3
    max_upload_bytes: Count = 4 << 30
    max_media_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 12 * 3600
    max_image_megapixels: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 400.0
    max_media_damage: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    max_run_items: Count = 10_000
    max_run_segments: Count = 1_000_000
    max_run_tokens: Annotated[Count | None, BeforeValidator(_none_if_zero)] = None
    run_deadline_s: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, BeforeValidator(_none_if_zero)
    ] = Field(default=None, validation_alias=f"{PREFIX}RUN_DEADLINE")
    heartbeat_s: float = Field(default=2.0, ge=0.01, le=3600, validation_alias=f"{PREFIX}HEARTBEAT")
    supervise: bool = True
    rate_limits: RateLimitSettings = RateLimitSettings()
    public_url: Annotated[str, AfterValidator(lambda url: url.rstrip("/"))] = ""
    strict_models: bool = False
    header_timeout_s: float = Field(default=15.0, ge=0.1, le=3600, validation_alias=f"{PREFIX}HEADER_TIMEOUT")

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
    """Reads the settings from variables; an empty one counts as not set.

    Raises:
        SettingsError: a value is invalid; the message names its variable.
    """
    given = dict(os.environ if environment is None else environment)

    class Source(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {name.lower(): value for name, value in given.items() if value}

        def __call__(self) -> dict[str, Any]:
            limits = {name: given.get(rate_variable(name)) for name in RateLimitSettings.model_fields}
            return {**super().__call__(), "rate_limits": {name: value for name, value in limits.items() if value}}

    class FromEnvironment(ApiConfig, BaseSettings):
        model_config = SettingsConfigDict(env_prefix=PREFIX)

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *arguments: Any, **sources: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (Source(settings_cls),)

    try:
        return FromEnvironment()
    except ValidationError as error:
        raise SettingsError("; ".join(_problem(problem) for problem in error.errors())) from error


def rate_variable(category: str) -> str:
    """The variable of a category's limit."""
    return f"{PREFIX}RATE_{category.upper()}"


def variables() -> dict[str, str]:
    """The variable of every setting, by the setting's name; of a category's limit by `rate_limits.<category>`."""
    named = {
        name: field.validation_alias or f"{PREFIX}{name.upper()}" for name, field in ApiConfig.model_fields.items()
    }
    del named["rate_limits"]
    limits = {f"rate_limits.{name}": rate_variable(name) for name in RateLimitSettings.model_fields}
    return {**{name: str(variable) for name, variable in named.items()}, **limits}


def _problem(problem: Any) -> str:
    """One problem of a validation: the variable, its value, and what it must be."""
    place = [str(part) for part in problem["loc"]]
    name = ".".join(place[:2]) if place[0] == "rate_limits" else place[0]
    variable = variables().get(name, name)
    return f"{variable} is {problem['input']!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
