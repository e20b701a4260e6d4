"""How media is cut into segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from schemas.errors import SettingsError
from schemas.media import MediaType, Strategy
from schemas.mediatime import US_PER_SECOND

VideoStrategy = Literal["smart", "fixed", "content_aware"]
AudioStrategy = Literal["content_aware", "fixed"]

DURATION_S: Final = (1, 300)  # the public prompt-run API's range of fixed windows

PLANNER_VERSION: Final = 1  # part of every segment id: raise it when the same input would be cut differently


@dataclass(frozen=True, slots=True)
class LengthBounds:
    """Lengths that a strategy aims at, in microseconds."""

    min_us: int
    target_us: int
    max_us: int


# smart: about 12 s holds a few shots or sentences of one scene: long enough to be understood, short enough that an answer
# can be placed in time. content_aware: a shot is a segment, so short ones stay; only flickers below a second are merged.
# Audio has no shots: its pauses are weighed towards 30 s.
_BOUNDS: Final[dict[tuple[str, str], LengthBounds]] = {
    ("video", "smart"): LengthBounds(4 * US_PER_SECOND, 12 * US_PER_SECOND, 40 * US_PER_SECOND),
    ("video", "content_aware"): LengthBounds(1 * US_PER_SECOND, 1 * US_PER_SECOND, 60 * US_PER_SECOND),
    ("audio", "content_aware"): LengthBounds(5 * US_PER_SECOND, 30 * US_PER_SECOND, 60 * US_PER_SECOND),
}


@dataclass(frozen=True, slots=True)
class SegmentationSettings:
    """How each type of media is cut.

    Attributes:
        video_duration_s, audio_duration_s: window in whole seconds, 1 to 300; given exactly where the strategy is fixed.

    Raises:
        SettingsError: a strategy is unknown, or a window is missing, superfluous or out of range.
    """

    video_strategy: VideoStrategy = "smart"
    audio_strategy: AudioStrategy = "content_aware"
    video_duration_s: int | None = None
    audio_duration_s: int | None = None

    def __post_init__(self) -> None:
        _check("video", self.video_strategy, ("smart", "fixed", "content_aware"), self.video_duration_s)
        _check("audio", self.audio_strategy, ("content_aware", "fixed"), self.audio_duration_s)

    def strategy_of(self, media_type: MediaType) -> Strategy:
        """The strategy for one type of media; an image is one segment."""
        if media_type == "image":
            return "image"
        return self.video_strategy if media_type == "video" else self.audio_strategy

    def bounds_of(self, media_type: MediaType) -> LengthBounds:
        """Lengths for video or audio; all three are the window where the strategy is fixed."""
        window_s = self.video_duration_s if media_type == "video" else self.audio_duration_s
        if window_s is not None:
            window_us = window_s * US_PER_SECOND
            return LengthBounds(window_us, window_us, window_us)
        return _BOUNDS[media_type, self.strategy_of(media_type)]

    def identity(self, media_type: MediaType) -> dict[str, Any]:
        """What decides the segments of one type of media: part of their ids."""
        if media_type == "image":
            return {"strategy": "image"}
        bounds = self.bounds_of(media_type)
        return {
            "version": PLANNER_VERSION,
            "strategy": self.strategy_of(media_type),
            "lengths_us": [bounds.min_us, bounds.target_us, bounds.max_us],
        }


def _check(media_type: str, strategy: str, known: tuple[str, ...], duration_s: int | None) -> None:
    if strategy not in known:
        raise SettingsError(f"{media_type} segmentation is {strategy!r}; use {', '.join(known)}")
    if strategy != "fixed":
        if duration_s is not None:
            raise SettingsError(
                f"{media_type} segment length is {duration_s!r}, but {media_type} segmentation is {strategy!r}; "
                "a length goes with fixed segmentation only"
            )
        return
    low, high = DURATION_S
    if isinstance(duration_s, bool) or not isinstance(duration_s, int) or not low <= duration_s <= high:
        raise SettingsError(
            f"fixed {media_type} segmentation needs a segment length of {low} to {high} whole seconds, not {duration_s!r}"
        )
