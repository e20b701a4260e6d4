"""Known Gemini models by name: the families, the default, and models with a shutdown date.

Any other name is passed to the service unchanged. The facts are from the public reference of the Gemini API (models,
deprecations, media resolution).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from promptreel.schemas.settings import MediaResolution, ModelSettings

DEFAULT_GEMINI_MODEL: Final = "gemini-3.5-flash-lite"


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """The properties that models of one generation share.

    Attributes:
        thinking: the request field that limits thinking; the service rejects a request with both.
        video_frame_tokens, image_tokens: input tokens of one frame of a video and of one image, by media resolution.
    """

    thinking: Literal["thinking_budget", "thinking_level"]
    video_frame_tokens: Mapping[MediaResolution | None, int]
    image_tokens: Mapping[MediaResolution | None, int]


@dataclass(frozen=True, slots=True)
class Retirement:
    """The shutdown date of a model at the Gemini API, and the model that replaces it."""

    shutdown_date: str
    successor: str


# By prefix of the model's name.
FAMILIES: Final[Mapping[str, ModelFamily]] = {
    "gemini-2": ModelFamily(
        thinking="thinking_budget",
        video_frame_tokens={None: 258, "low": 66, "medium": 258, "high": 258},
        image_tokens={None: 258, "low": 66, "medium": 258, "high": 258},
    ),
    "gemini-3": ModelFamily(
        thinking="thinking_level",
        video_frame_tokens={None: 70, "low": 70, "medium": 70, "high": 280},
        image_tokens={None: 1120, "low": 280, "medium": 560, "high": 1120},
    ),
}
NEWEST_FAMILY: Final = FAMILIES["gemini-3"]

RETIRED: Final[Mapping[str, Retirement]] = {
    "gemini-2.0-flash": Retirement("2026-06-01", "gemini-3.5-flash-lite"),
    "gemini-2.0-flash-001": Retirement("2026-06-01", "gemini-3.5-flash-lite"),
    "gemini-2.0-flash-lite": Retirement("2026-06-01", "gemini-3.5-flash-lite"),
    "gemini-2.0-flash-lite-001": Retirement("2026-06-01", "gemini-3.5-flash-lite"),
    "gemini-2.5-flash": Retirement("2026-12-01", "gemini-3.5-flash-lite"),
    "gemini-2.5-pro": Retirement("2026-12-01", "gemini-3.8-flash"),
}


def family_of(name: str) -> ModelFamily | None:
    """Return the family of a model; None if its name does not tell (a tuned model, an alias, a later generation)."""
    return next((family for prefix, family in FAMILIES.items() if _short_name(name).startswith(prefix)), None)


def retirement_of(name: str) -> Retirement | None:
    """Return the retirement of a model; None if none is known."""
    return RETIRED.get(_short_name(name))


def retirement_warning(settings: ModelSettings) -> str | None:
    """Return a warning if the run's model has a shutdown date. Vertex AI has its own dates, so it gets no warning."""
    retirement = retirement_of(settings.model)
    if retirement is None or settings.vertex_project:
        return None
    return (
        f"model {settings.model!r} has the shutdown date {retirement.shutdown_date}; use {retirement.successor} instead"
    )


def not_found_message(name: str, answer: str) -> str:
    """Return the error message for a model that the service does not have.

    Args:
        answer: the message of the service.
    """
    retirement = retirement_of(name)
    if retirement is None:
        return f"the service does not have model {name!r}; check the name and the base URL ({answer})"
    return (
        f"the service does not have model {name!r} (shutdown date {retirement.shutdown_date}); "
        f"use {retirement.successor} instead ({answer})"
    )


def _short_name(name: str) -> str:
    """Return a name without its resource prefix: models/..., projects/.../publishers/google/models/..."""
    return name.rpartition("/")[2]
