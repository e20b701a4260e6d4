"""The table of known Gemini models: family, use, shutdown date and successor; and the token counts of each family.

Any other name is passed to the service unchanged. The facts are from the public reference of the Gemini API (models,
deprecations, media resolution, tokens), read on 2026-11-27. The dates are the earliest possible ones, so a date alone never
rejects a run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from promptreel.schemas.settings import MediaResolution

ModelUse = Literal["answers", "embeddings"]
ModelStatus = Literal["current", "deprecated", "shut_down"]


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """The properties that models of one generation share.

    Attributes:
        thinking: the request field that limits thinking; the service rejects a request with both.
        video_frame_tokens, image_tokens: input tokens of one frame of a video and of one image, by media resolution. A
            resolution that is not in `image_tokens` does not exist; a video has at most "high".
        sound_second_tokens: input tokens of one second of sound.
        has_part_resolution: whether each media part of a request has its own resolution.
    """

    thinking: Literal["thinking_budget", "thinking_level"]
    video_frame_tokens: Mapping[MediaResolution | None, int]
    image_tokens: Mapping[MediaResolution | None, int]
    sound_second_tokens: int = 32
    has_part_resolution: bool = False


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One model of the Gemini API.

    Attributes:
        family: key of `FAMILIES`; None for an embedding model.
        shutdown_date: the earliest date (YYYY-MM-DD) on which the service may shut the model down; None if none is
            announced.
        successor: the model that replaces it.
    """

    name: str
    family: str | None
    use: ModelUse = "answers"
    shutdown_date: str | None = None
    successor: str | None = None

    def status(self, today: date) -> ModelStatus:
        """Return the status by the announced date. Only the service knows whether the model still answers."""
        if self.shutdown_date is None:
            return "current"
        return "deprecated" if today < date.fromisoformat(self.shutdown_date) else "shut_down"


_GEMINI_3: Final = ModelFamily(
    thinking="thinking_level",
    video_frame_tokens={None: 70, "low": 70, "medium": 70, "high": 280, "ultra_high": 280},
    image_tokens={None: 1120, "low": 280, "medium": 560, "high": 1120, "ultra_high": 2240},
    has_part_resolution=True,
)
# By prefix of the model's name.
FAMILIES: Final[Mapping[str, ModelFamily]] = {
    "gemini-2": ModelFamily(
        thinking="thinking_budget",
        video_frame_tokens={None: 258, "low": 66, "medium": 258, "high": 258},
        image_tokens={None: 258, "low": 66, "medium": 258, "high": 258},
    ),
    "gemini-3": _GEMINI_3,
    "gemini-4": _GEMINI_3,
}
NEWEST_FAMILY: Final = FAMILIES["gemini-4"]

DEFAULT_GEMINI_MODEL: Final = "gemini-3.5-flash-lite"
DEFAULT_EMBEDDING_MODEL: Final = "gemini-embedding-001"

_TABLE: Final = (
    KnownModel("gemini-2.0-flash", "gemini-2", "answers", "2026-06-01", "gemini-3.5-flash-lite"),
    KnownModel("gemini-2.0-flash-001", "gemini-2", "answers", "2026-06-01", "gemini-3.5-flash-lite"),
    KnownModel("gemini-2.0-flash-lite", "gemini-2", "answers", "2026-06-01", "gemini-3.5-flash-lite"),
    KnownModel("gemini-2.0-flash-lite-001", "gemini-2", "answers", "2026-06-01", "gemini-3.5-flash-lite"),
    # From their date on, the service answers these two with the successor.
    KnownModel("gemini-2.5-flash", "gemini-2", "answers", "2026-12-01", "gemini-3.5-flash-lite"),
    KnownModel("gemini-2.5-pro", "gemini-2", "answers", "2026-12-01", "gemini-3.8-flash"),
    KnownModel("gemini-2.5-flash-lite", "gemini-2"),
    KnownModel("gemini-3-pro-preview", "gemini-3", "answers", "2026-03-09", "gemini-3.1-pro-preview"),
    KnownModel("gemini-3-flash-preview", "gemini-3"),
    KnownModel("gemini-3.1-pro-preview", "gemini-3"),
    KnownModel("gemini-3.1-flash-lite", "gemini-3", "answers", "2027-05-07", "gemini-3.5-flash-lite"),
    KnownModel("gemini-3.5-flash", "gemini-3"),
    KnownModel("gemini-3.5-flash-lite", "gemini-3"),
    KnownModel("gemini-3.6-flash", "gemini-3"),
    KnownModel("gemini-3.7-flash", "gemini-3"),
    KnownModel("gemini-3.8-flash", "gemini-3"),
    KnownModel("gemini-4-argon", "gemini-4"),
    KnownModel("embedding-001", None, "embeddings", "2025-10-30", "gemini-embedding-001"),
    KnownModel("text-embedding-004", None, "embeddings", "2026-01-14", "gemini-embedding-001"),
    KnownModel("gemini-embedding-exp-03-07", None, "embeddings", "2025-10-30", "gemini-embedding-001"),
    KnownModel("gemini-embedding-001", None, "embeddings"),
    KnownModel("gemini-embedding-2", None, "embeddings"),
)
KNOWN_MODELS: Final[Mapping[str, KnownModel]] = {model.name: model for model in _TABLE}


def known_model(name: str) -> KnownModel | None:
    """Return the entry of a model by its name, with or without a resource prefix; None if it is not in the table."""
    return KNOWN_MODELS.get(short_name(name))


def family_of(name: str) -> ModelFamily | None:
    """Return the family of a model; None if its name does not tell (a tuned model, an alias, a later generation)."""
    return next((family for prefix, family in FAMILIES.items() if short_name(name).startswith(prefix)), None)


def short_name(name: str) -> str:
    """Return a Gemini name without its resource prefix: models/..., projects/.../publishers/google/models/...

    The name of another provider's model (openai:NAME) is not changed.
    """
    return name if ":" in name else name.rpartition("/")[2]


def is_version_of(version: str, name: str) -> bool:
    """Return whether a service that was asked for `name` may name its answer `version` without a change of the model.

    A version adds a suffix that starts with a digit, or with preview or exp, to the name. An alias (...-latest) and a tuned
    model do not say which model answers.
    """
    asked, served = short_name(name), short_name(version)
    if asked.endswith("-latest") or not asked.startswith("gemini-") or "/endpoints/" in name:
        return True
    return re.fullmatch(rf"{re.escape(asked)}(-(\d|preview|exp).*)?", served) is not None


def may_move(name: str, version: str) -> bool:
    """Return whether the service may answer for this name with another version than before.

    A name that is itself the version is fixed, unless the service has announced to shut the model down.
    """
    known = known_model(name)
    return short_name(version) != short_name(name) or (known is not None and known.shutdown_date is not None)
