"""How much of a segment's media the answers to a prompt need: defaults for the settings of its runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from promptreel.schemas.decoding import FORBID_UNKNOWN
from promptreel.schemas.errors import PromptError
from promptreel.schemas.settings import MAX_FRAMES_PER_SEGMENT, MediaResolution, RunSettings

# Of a prompt that needs pictures only: enough for a segment of a few shots. At the default segment length of 12 s, more
# frames would save little.
DEFAULT_FRAMES: Final = 4


@dataclass(frozen=True)
class PromptMedia:
    """What a prompt needs of a segment. It is not part of any key: only the settings that result from it are.

    Attributes:
        pictures_only: neither the sound nor the motion of videos matters, so a run sends a few chosen frames at low
            resolution, and no sound.
        frames_per_segment, resolution: defaults for `frames_per_segment` and `media_resolution` of the run's model.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    pictures_only: bool = False
    frames_per_segment: int | None = None
    resolution: MediaResolution | None = None

    def __post_init__(self) -> None:
        count = self.frames_per_segment
        if count is not None and not 1 <= count <= MAX_FRAMES_PER_SEGMENT:
            raise PromptError(f"media.frames_per_segment is {count}; it must be from 1 to {MAX_FRAMES_PER_SEGMENT}")

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON values."""
        return {
            "pictures_only": self.pictures_only,
            "frames_per_segment": self.frames_per_segment,
            "resolution": self.resolution,
        }


def settings_for_prompt(settings: RunSettings, media: PromptMedia) -> RunSettings:
    """Fill in the settings that the user did not set from what a prompt needs, before a run is frozen or estimated.

    Uploaded files are complete items, so only the resolution of their frames can change.
    """
    model = settings.model
    defaults: dict[str, Any] = {
        "frames_per_segment": media.frames_per_segment,
        "sound": False if media.pictures_only else None,
        "media_resolution": media.resolution,
    }
    if media.pictures_only:
        defaults["frames_per_segment"] = media.frames_per_segment or DEFAULT_FRAMES
        defaults["media_resolution"] = media.resolution or "low"
    if model.media_input == "files":
        defaults = {"media_resolution": defaults["media_resolution"]}
    filled = {name: value for name, value in defaults.items() if getattr(model, name) is None and value is not None}
    return replace(settings, model=replace(model, **filled)) if filled else settings
