"""Service settings from the environment. Their `repr` hides secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from promptreel.providers.prices import load_prices
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.prices import ModelPrice
from promptreel.schemas.settings import ImageEmbeddingSettings, TextEmbeddingSettings, TranscriptionSettings
from promptreel.schemas.tiers import Tier

PREFIX: Final = "PROMPTREEL_"


def _split(value: Any) -> Any:
    """Split comma-separated text."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _parse_pairs(value: Any) -> Any:
    """Parse `a=b,c=d` into a mapping."""
    if not isinstance(value, str):
        return value
    parts = _split(value)
    if wrong := [part for part in parts if "=" not in part]:
        raise ValueError(f"{wrong[0]!r} must have the form name=model")
    return dict(part.split("=", 1) for part in parts)


def _load_prices(value: Any) -> Any:
    """Load the prices of a file."""
    try:
        return load_prices(value) if isinstance(value, str) else value
    except SettingsError as error:
        raise ValueError(str(error)) from error


def _none_if_zero(value: Any) -> Any:
    return None if value in ("0", 0) else value


def _check_languages(value: str) -> str:
    codes = [code.strip() for code in value.split(",")]
    if not all(re.fullmatch("[a-z]{2,3}", code) for code in codes):
        raise ValueError("must be an ISO 639-1 code such as en, or several separated by commas")
    return ",".join(codes)


def _resolve(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    return tuple(path.expanduser().resolve() for path in paths)


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Count = Annotated[int, Field(ge=1)]
Model = Annotated[str, Field(pattern=r"\S")]
Languages = Annotated[str, AfterValidator(_check_languages)]


class RateLimitSettings(BaseModel):
    """Requests per minute and account, by category. The limit per hour is `HOUR_FACTOR` times higher."""

    HOUR_FACTOR: ClassVar[int] = 40
    model_config = ConfigDict(frozen=True, extra="forbid")

    search: Count = 600
    read: Count = 6000
    write: Count = 1200
    upload: Count = 120


class ApiConfig(BaseModel):
    """Settings of the service.

    Attributes:
        data_dir: data folder of runs, tables and uploads: a path or an fsspec URL.
        database_url: SQLAlchemy URL; empty means SQLite in the data folder.
        media_roots: folders under which `file://` media may be registered.
        local_account: account that owns the runs of the command line in the data folder; None means the only account.
        media_buckets: `gs://` and `s3://` buckets from which media may be registered, e.g. "gs://my-bucket".
        allow_https: whether `https://` media may be registered (fetched through a guard against private addresses).
        default_model: model of runs that do not name one.
        models: models that a run may use; empty allows all models of all providers.
        model_aliases: alternative model names, e.g. those of the hosted product.
        model_base_url: URL of the model service; None uses the client library's default.
        tier: service tier of the calls of runs whose model has it; other runs have the tier "standard".
        flex_fallback, batch_deadline_s: as in `CallSettings`.
        max_running: maximum number of concurrent runs; others wait.
        max_resumes: how often a dead runner is restarted to continue; then one last start only commits what is stored.
        max_upload_bytes, max_media_seconds, max_run_items, max_run_segments, max_run_tokens: limits of one upload, item
            and run; None for `max_run_tokens` means no limit.
        max_run_cost: cost after which a run makes no further calls, in the currency of the model's price; None means no
            limit.
        prices: prices that replace the published ones, from a file; see `promptreel.providers.prices`.
        max_image_megapixels: maximum width x height of an image, in millions of pixels.
        max_media_damage: maximum share of an item, 0 to 1, that may be missing or concealed; 1 accepts any damage.
        run_deadline_s: seconds after which a run makes no further calls; None means no limit.
        max_outage_s: seconds that a run waits for a model service that is down or grants no call, before it halts; 0 does
            not wait.
        commit_interval_s: seconds between commits of finished segments during a run; 0 commits only at its end.
        heartbeat_s: seconds between a supervisor's heartbeats; its leases expire after five missed ones.
        supervise: whether this process executes runs, or only serves requests.
        public_url: base URL of links to the service; empty uses that of the request.
        strict_models: reject runs whose transcription or embedding model cannot be loaded, instead of skipping that
            operation with a warning.
        transcription_model, image_embedding_model, text_embedding_model: local models of runs, as in `RunSettings`.
        transcription_language: spoken language, or several separated by commas; None detects it.
        header_timeout_s: seconds that a client has to send a request head; see `BoundedHttpProtocol`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    data_dir: str = Field(default="promptreel-data", validation_alias=f"{PREFIX}DATA")
    database_url: str = Field(default="", validation_alias="DATABASE_URL", repr=False)
    media_roots: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split), AfterValidator(_resolve)] = ()
    local_account: str | None = None
    media_buckets: CommaSeparated = ()
    allow_https: bool = True
    default_model: str | None = Field(default=None, validation_alias=f"{PREFIX}MODEL")
    models: CommaSeparated = Field(default=(), validation_alias=f"{PREFIX}ALLOWED_MODELS")
    model_aliases: Annotated[Mapping[str, str], NoDecode, BeforeValidator(_parse_pairs)] = Field(default_factory=dict)
    model_base_url: str | None = None
    tier: Tier = "standard"
    flex_fallback: bool = False
    batch_deadline_s: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, BeforeValidator(_none_if_zero)
    ] = Field(default=None, validation_alias=f"{PREFIX}BATCH_DEADLINE")
    max_running: Annotated[int, Field(ge=1, le=1000)] = 2
    max_resumes: Annotated[int, Field(ge=0, le=100)] = 3
    max_upload_bytes: Count = 4 << 30
    max_media_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 12 * 3600
    max_image_megapixels: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 400.0
    max_media_damage: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    max_run_items: Count = 10_000
    max_run_segments: Count = 1_000_000
    max_run_tokens: Annotated[Count | None, BeforeValidator(_none_if_zero)] = None
    max_run_cost: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, BeforeValidator(_none_if_zero)
    ] = None
    prices: Annotated[tuple[ModelPrice, ...], NoDecode, BeforeValidator(_load_prices)] = ()
    run_deadline_s: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, BeforeValidator(_none_if_zero)
    ] = Field(default=None, validation_alias=f"{PREFIX}RUN_DEADLINE")
    max_outage_s: float = Field(default=600.0, ge=0, le=7 * 86_400, validation_alias=f"{PREFIX}MAX_OUTAGE")
    commit_interval_s: float = Field(default=5.0, ge=0, le=3600, validation_alias=f"{PREFIX}COMMIT_INTERVAL")
    heartbeat_s: float = Field(default=2.0, ge=0.01, le=3600, validation_alias=f"{PREFIX}HEARTBEAT")
    supervise: bool = True
    rate_limits: RateLimitSettings = RateLimitSettings()
    public_url: Annotated[str, AfterValidator(lambda url: url.rstrip("/"))] = ""
    strict_models: bool = False
    transcription_model: Model = TranscriptionSettings.model
    transcription_language: Languages | None = TranscriptionSettings.language
    image_embedding_model: Model = ImageEmbeddingSettings.model
    text_embedding_model: Model = TextEmbeddingSettings.model
    header_timeout_s: float = Field(default=15.0, ge=0.1, le=3600, validation_alias=f"{PREFIX}HEADER_TIMEOUT")

    @property
    def sqlalchemy_url(self) -> str:
        """The database URL with its driver."""
        if self.database_url:
            for scheme in ("postgres://", "postgresql://"):
                if self.database_url.startswith(scheme):
                    return "postgresql+psycopg://" + self.database_url.removeprefix(scheme)
            return self.database_url
        if "://" in self.data_dir:
            raise SettingsError(f"SQLite needs a local data folder, and {self.data_dir} is remote; set DATABASE_URL")
        return f"sqlite:///{Path(self.data_dir).absolute() / 'promptreel.db'}"


def config_from_environment(environment: Mapping[str, str] | None = None) -> ApiConfig:
    """Load the settings from environment variables; an empty variable counts as not set.

    Raises:
        SettingsError: a value is invalid; the message names the variable.
    """
    values = dict(os.environ if environment is None else environment)

    class Source(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {name.lower(): value for name, value in values.items() if value}

        def __call__(self) -> dict[str, Any]:
            limits = {name: values.get(rate_variable(name)) for name in RateLimitSettings.model_fields}
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
        raise SettingsError("; ".join(_describe(problem) for problem in error.errors())) from error


def rate_variable(category: str) -> str:
    """Return the name of the variable with a category's rate limit."""
    return f"{PREFIX}RATE_{category.upper()}"


def variables() -> dict[str, str]:
    """Map each setting to its environment variable; rate limits are named `rate_limits.<category>`."""
    named = {
        name: field.validation_alias or f"{PREFIX}{name.upper()}" for name, field in ApiConfig.model_fields.items()
    }
    del named["rate_limits"]
    limits = {f"rate_limits.{name}": rate_variable(name) for name in RateLimitSettings.model_fields}
    return {**{name: str(variable) for name, variable in named.items()}, **limits}


def _describe(problem: Any) -> str:
    """Describe a validation problem: the variable, its value, and what it must be."""
    path = [str(part) for part in problem["loc"]]
    name = ".".join(path[:2]) if path[0] == "rate_limits" else path[0]
    variable = variables().get(name, name)
    return f"{variable} is {problem['input']!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
