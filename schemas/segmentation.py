"""Segmentation settings.

>>> SegmentationSettings(video_strategy="fixed", video_duration_s=30).window_us("video")
30000000
>>> SegmentationSettings().bounds_of("video").target_us
12000000
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from promptreel.schemas.decoding import FORBID_UNKNOWN
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.media import MediaType
from promptreel.schemas.mediatime import US_PER_SECOND
from promptreel.schemas.strategies import (
    AUDIO_STRATEGIES,
    DEFAULT_AUDIO_STRATEGY,
    DEFAULT_VIDEO_STRATEGY,
    IMAGE_STRATEGY,
    MAX_WINDOW_S,
    MIN_WINDOW_S,
    VIDEO_STRATEGIES,
    AudioStrategy,
    Strategy,
    VideoStrategy,
)

PLANNER_VERSION: Final = 1  # part of every segment id: increment it when the same input would be cut differently

# A model may not sample a single frame of a shorter clip and answer anyway.
_MIN_LENGTH_US: Final = US_PER_SECOND // 2
_MAX_LENGTH_US: Final = MAX_WINDOW_S * US_PER_SECOND
# At this ratio, any duration above the maximum can be cut into lengths within the bounds, with a choice of cuts.
_MIN_RATIO: Final = 3


@dataclass(frozen=True, slots=True)
class LengthBounds:
    """Segment lengths in microseconds.

    Attributes:
        min_us: minimum length, unless the item itself is shorter; at least half a second.
        target_us: preferred length.
        max_us: maximum length; at most 300 s, and at least three times the minimum.

    Raises:
        SettingsError: a length is out of range, or the three are not in ascending order.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    min_us: int
    target_us: int
    max_us: int

    def __post_init__(self) -> None:
        for bound in dataclasses.fields(self):
            value = getattr(self, bound.name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise SettingsError(
                    f"segment length {bound.name} is {value!r}; it must be a whole number of microseconds, "
                    "such as 20000000 for 20 s"
                )
        if self.min_us < _MIN_LENGTH_US:
            raise SettingsError(f"segment length min_us is {self.min_us}; it must be at least {_MIN_LENGTH_US}")
        if self.max_us > _MAX_LENGTH_US:
            raise SettingsError(f"segment length max_us is {self.max_us}; it must be at most {_MAX_LENGTH_US}")
        if not self.min_us <= self.target_us <= self.max_us:
            raise SettingsError(
                f"segment length target_us is {self.target_us}; it must be between min_us ({self.min_us}) "
                f"and max_us ({self.max_us})"
            )
        if self.max_us < _MIN_RATIO * self.min_us:
            raise SettingsError(
                f"segment length max_us is {self.max_us}, too close to min_us ({self.min_us}); "
                f"it must be at least {_MIN_RATIO * self.min_us}, or use fixed segmentation"
            )


# 12 s cover a few shots or sentences of one scene: long enough for context, short enough to locate an answer in
# time. Below 4 s the prompt costs more than the media, and sentences (3 to 8 s) would be split. At one frame per
# second, 40 s are 40 frames and about 12,000 tokens.
SMART: Final = LengthBounds(4 * US_PER_SECOND, 12 * US_PER_SECOND, 40 * US_PER_SECOND)
# A segment is a shot. Shots below 1 s may contain no sampled frame; long takes are cut into about 30 s.
SHOTS: Final = LengthBounds(1 * US_PER_SECOND, 30 * US_PER_SECOND, 60 * US_PER_SECOND)
# Audio has no shots. 30 s is the input window of Whisper models.
PAUSES: Final = LengthBounds(5 * US_PER_SECOND, 30 * US_PER_SECOND, 60 * US_PER_SECOND)


@dataclass(frozen=True, slots=True)
class SegmentationSettings:
    """Segmentation strategy and lengths for each media type.

    Attributes:
        video_strategy: "smart" considers shots and speech, "content_aware" follows shots, "fixed" uses equal windows.
        audio_strategy: "content_aware" follows pauses, "fixed" uses equal windows.
        video_duration_s, audio_duration_s: window length in whole seconds, 1 to 300; required for the strategy "fixed",
            not allowed otherwise. The last window ends with the item; it is up to half a second longer, or shorter.
        smart_lengths, shot_lengths, pause_lengths: lengths for smart video, content_aware video and content_aware audio.

    Raises:
        SettingsError: a strategy is unknown, or a window is missing, not allowed or out of range.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    video_strategy: VideoStrategy = DEFAULT_VIDEO_STRATEGY
    audio_strategy: AudioStrategy = DEFAULT_AUDIO_STRATEGY
    video_duration_s: int | None = None
    audio_duration_s: int | None = None
    smart_lengths: LengthBounds = SMART
    shot_lengths: LengthBounds = SHOTS
    pause_lengths: LengthBounds = PAUSES

    def __post_init__(self) -> None:
        _check("video", self.video_strategy, VIDEO_STRATEGIES, self.video_duration_s)
        _check("audio", self.audio_strategy, AUDIO_STRATEGIES, self.audio_duration_s)

    def strategy_of(self, media_type: MediaType) -> Strategy:
        """Return the strategy for a media type; an image is one segment."""
        if media_type == "image":
            return IMAGE_STRATEGY
        return self.video_strategy if media_type == "video" else self.audio_strategy

    def window_us(self, media_type: MediaType) -> int | None:
        """Return the window in microseconds if the strategy is "fixed", otherwise None; see `window_ends`."""
        window_s = {"video": self.video_duration_s, "audio": self.audio_duration_s}.get(media_type)
        return None if window_s is None else window_s * US_PER_SECOND

    def bounds_of(self, media_type: MediaType) -> LengthBounds:
        """Return the length bounds of the smart or content_aware strategy for a media type."""
        if media_type == "audio":
            return self.pause_lengths
        return self.smart_lengths if self.video_strategy == "smart" else self.shot_lengths

    def segment_bounds(self, media_type: MediaType, duration_us: int | None) -> tuple[int, int]:
        """Return the minimum and maximum number of segments of an item.

        Both are exact for an image (1) and for fixed windows. Without a known duration both are 1, the least possible.
        """
        if media_type == "image" or not duration_us:
            return 1, 1
        window_us = self.window_us(media_type)
        if window_us is not None:
            count = 1 + len(window_ends(duration_us, window_us))
            return count, count
        lengths = self.bounds_of(media_type)
        minimum = -(-duration_us // lengths.max_us)
        return minimum, max(minimum, duration_us // lengths.min_us)

    def segment_counts(self, media_type: MediaType, duration_us: int | None) -> tuple[int, int, int]:
        """Return the minimum, the expected and the maximum number of segments of an item."""
        minimum, maximum = self.segment_bounds(media_type, duration_us)
        if minimum == maximum:
            return minimum, minimum, minimum
        expected = round((duration_us or 0) / self.bounds_of(media_type).target_us)
        return minimum, min(maximum, max(minimum, expected)), maximum

    def identity(self, media_type: MediaType) -> dict[str, Any]:
        """Return exactly the settings that determine the segments of a media type; they are part of segment ids."""
        if media_type == "image":
            return {"strategy": IMAGE_STRATEGY}
        window_us = self.window_us(media_type)
        if window_us is not None:
            return {"version": PLANNER_VERSION, "strategy": "fixed", "window_us": window_us}
        return {
            "version": PLANNER_VERSION,
            "strategy": self.strategy_of(media_type),
            **dataclasses.asdict(self.bounds_of(media_type)),
        }


def window_ends(duration_us: int, window_us: int) -> range:
    """Return the ends of the fixed windows of an item, in microseconds, without the last, which ends with the item.

    A remainder shorter than half a second is not a segment of its own: it extends the last window.

    >>> list(window_ends(30_003_000, 10_000_000))
    [10000000, 20000000]
    """
    # This rule is not part of `PLANNER_VERSION`: the segments that it changes get new ids from their new times.
    return range(window_us, duration_us - _MIN_LENGTH_US + 1, window_us)


def _check(media_type: str, strategy: str, known: tuple[str, ...], duration_s: int | None) -> None:
    if strategy not in known:
        raise SettingsError(f"{media_type} segmentation is {strategy!r}; it must be one of {', '.join(known)}")
    if strategy != "fixed":
        if duration_s is not None:
            raise SettingsError(
                f"{media_type} segment length is {duration_s!r}, but {media_type} segmentation is "
                f"{strategy!r}; a length is allowed with fixed segmentation only"
            )
        return
    if (
        isinstance(duration_s, bool)
        or not isinstance(duration_s, int)
        or not MIN_WINDOW_S <= duration_s <= MAX_WINDOW_S
    ):
        raise SettingsError(
            f"{media_type} segment length is {duration_s!r}; fixed segmentation needs {MIN_WINDOW_S} to {MAX_WINDOW_S} "
            "whole seconds"
        )
