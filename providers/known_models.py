"""What is known of Gemini's models by their names: families, the default, and names that are shut down.

The list is not closed: a name that is not here goes to the service as it is. Facts are those of the Gemini API's public
reference (models, deprecations, media resolution).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from promptreel.schemas.settings import MediaResolution, ModelSettings

DEFAULT_GEMINI_MODEL: Final = "gemini-3.5-flash-lite"


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """What models of one generation have in common.

    Attributes:
        thinking: the field that sets how much they think; a request with both is rejected.
        video_frame_tokens, image_tokens: input tokens of one frame of a video and of one image, by media resolution.
    """

    thinking: Literal["thinking_budget", "thinking_level"]
    video_frame_tokens: Mapping[MediaResolution | None, int]
    image_tokens: Mapping[MediaResolution | None, int]


@dataclass(frozen=True, slots=True)
class Retirement:
    """The end of a name at the Gemini API: its shutdown date, and the model that replaces it."""

    shutdown_date: str
    successor: str


# Prefix of a name to its family.
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
    """The family of a model; None for a name that says nothing of it (a tuned model, an alias, a later generation)."""
    return next((family for prefix, family in FAMILIES.items() if _short(name).startswith(prefix)), None)


def retirement_of(name: str) -> Retirement | None:
    """The end of a model's name; None unless one is known."""
    return RETIRED.get(_short(name))


def retirement_warning(settings: ModelSettings) -> str | None:
    """The warning of a run whose model is shut down, or will be; None for any other. Vertex AI has dates of its own."""
    retirement = retirement_of(settings.model)
    if retirement is None or settings.vertex_project:
        return None
    return (
        f"model {settings.model!r} has the shutdown date {retirement.shutdown_date}; use {retirement.successor} instead"
    )


def not_found_message(name: str, answer: str) -> str:
    """What to tell of a model that the service does not know.

    Args:
        answer: the service's own words.
    """
    retirement = retirement_of(name)
    if retirement is None:
        return f"the service does not know model {name!r}; check the name and the service's address ({answer})"
    ended = f"(shutdown date {retirement.shutdown_date})"
    return f"the service does not know model {name!r} {ended}; use {retirement.successor} instead ({answer})"


def _short(name: str) -> str:
    """A name without the resource that it stands in: models/..., projects/.../publishers/google/models/..."""
    return name.rpartition("/")[2]
