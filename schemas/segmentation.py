"""How media is cut into segments.

>>> SegmentationSettings(video_strategy="fixed", video_duration_s=30).window_us("video")
30000000
>>> SegmentationSettings().bounds_of("video").target_us
12000000
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

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

PLANNER_VERSION: Final = 1  # part of every segment id: raise it when the same input would be cut differently

# A model may answer about a shorter clip without having seen one frame of it.
_SHORTEST_US: Final = US_PER_SECOND // 2
_LONGEST_US: Final = MAX_WINDOW_S * US_PER_SECOND
# With this factor any length above the maximum can be cut into lengths within the bounds, with room to choose where.
_MIN_RANGE: Final = 3


@dataclass(frozen=True, slots=True)
class LengthBounds:
    """Lengths of segments in microseconds.

    Attributes:
        min_us: no segment is shorter unless its whole item is; at least half a second.
        target_us: what lengths are drawn to where there is a choice.
        max_us: no segment is longer; at most 300 s, and at least three times the minimum.

    Raises:
        SettingsError: a length is out of range, or the three do not rise.
    """

    min_us: int
    target_us: int
    max_us: int

    def __post_init__(self) -> None:
        for part in dataclasses.fields(self):
            value = getattr(self, part.name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise SettingsError(
                    f"segment length {part.name} is {value!r}; it must be a whole number of microseconds, "
                    "such as 20000000 for 20 s"
                )
        if self.min_us < _SHORTEST_US:
            raise SettingsError(f"segment length min_us is {self.min_us}; it must be at least {_SHORTEST_US}")
        if self.max_us > _LONGEST_US:
            raise SettingsError(f"segment length max_us is {self.max_us}; it must be at most {_LONGEST_US}")
        if not self.min_us <= self.target_us <= self.max_us:
            raise SettingsError(
                f"segment length target_us is {self.target_us}; it must lie from min_us ({self.min_us}) "
                f"to max_us ({self.max_us})"
            )
        if self.max_us < _MIN_RANGE * self.min_us:
            raise SettingsError(
                f"segment length max_us is {self.max_us}, which leaves no room above min_us ({self.min_us}); "
                f"make it at least {_MIN_RANGE * self.min_us}, or use fixed segmentation"
            )


# 12 s hold a few shots or sentences of one scene: long enough to be understood, short enough that an answer
# can be placed in time. Below 4 s the prompt outweighs the media, and sentences (3 to 8 s) would each be torn
# apart. 40 s are 40 frames and about 12,000 tokens at one frame a second.
SMART: Final = LengthBounds(4 * US_PER_SECOND, 12 * US_PER_SECOND, 40 * US_PER_SECOND)
# A shot is a segment. Shots below a second may hold no sampled frame; long takes are cut towards 30 s.
SHOTS: Final = LengthBounds(1 * US_PER_SECOND, 30 * US_PER_SECOND, 60 * US_PER_SECOND)
# Sound has no shots. 30 s is the window that speech recognition models of the Whisper family read at once.
PAUSES: Final = LengthBounds(5 * US_PER_SECOND, 30 * US_PER_SECOND, 60 * US_PER_SECOND)


@dataclass(frozen=True, slots=True)
class SegmentationSettings:
    """How each type of media is cut.

    Attributes:
        video_strategy: "smart" weighs shots and speech together, "content_aware" follows shots, "fixed" cuts
            windows.
        audio_strategy: "content_aware" follows pauses, "fixed" cuts windows.
        video_duration_s, audio_duration_s: window in whole seconds, 1 to 300; given exactly where the
            strategy is fixed.
        smart_lengths, shot_lengths, pause_lengths: lengths of smart video, content_aware video and content_aware
            audio; a mapping as `to_dict` writes it is taken too.

    Raises:
        SettingsError: a strategy is unknown, a window is missing, superfluous or out of range, or lengths are.
    """

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
        for name in ("smart_lengths", "shot_lengths", "pause_lengths"):
            object.__setattr__(self, name, _lengths(name, getattr(self, name)))

    def strategy_of(self, media_type: MediaType) -> Strategy:
        """The strategy for one type of media; an image is one segment."""
        if media_type == "image":
            return IMAGE_STRATEGY
        return self.video_strategy if media_type == "video" else self.audio_strategy

    def window_us(self, media_type: MediaType) -> int | None:
        """The window in microseconds where the type's strategy is fixed, else None."""
        window_s = {"video": self.video_duration_s, "audio": self.audio_duration_s}.get(media_type)
        return None if window_s is None else window_s * US_PER_SECOND

    def bounds_of(self, media_type: MediaType) -> LengthBounds:
        """The lengths that the type's smart or content_aware strategy keeps to."""
        if media_type == "audio":
            return self.pause_lengths
        return self.smart_lengths if self.video_strategy == "smart" else self.shot_lengths

    def segment_bounds(self, media_type: MediaType, duration_us: int | None) -> tuple[int, int]:
        """The least and the most segments that an item of so many microseconds can have; they are equal for an image, for
        fixed windows, and where the length is not known (one, at least)."""
        if media_type == "image" or not duration_us:
            return 1, 1
        window_us = self.window_us(media_type)
        if window_us is not None:
            count = -(-duration_us // window_us)
            return count, count
        lengths = self.bounds_of(media_type)
        least = -(-duration_us // lengths.max_us)
        return least, max(least, duration_us // lengths.min_us)

    def identity(self, media_type: MediaType) -> dict[str, Any]:
        """What decides the segments of one type of media, and nothing else: part of their ids."""
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

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values; `from_dict` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SegmentationSettings:
        """Reads settings as `to_dict` writes them; what is left out keeps its default.

        Raises:
            SettingsError: a key is unknown, or a value is out of range.
        """
        _refuse_unknown("segmentation", values, cls)
        return cls(**values)


def _check(media_type: str, strategy: str, known: tuple[str, ...], duration_s: int | None) -> None:
    if strategy not in known:
        raise SettingsError(f"{media_type} segmentation is {strategy!r}; use {', '.join(known)}")
    if strategy != "fixed":
        if duration_s is not None:
            raise SettingsError(
                f"{media_type} segment length is {duration_s!r}, but {media_type} segmentation is "
                f"{strategy!r}; a length goes with fixed segmentation only"
            )
        return
    if (
        isinstance(duration_s, bool)
        or not isinstance(duration_s, int)
        or not MIN_WINDOW_S <= duration_s <= MAX_WINDOW_S
    ):
        raise SettingsError(
            f"fixed {media_type} segmentation needs a segment length of {MIN_WINDOW_S} to {MAX_WINDOW_S} whole seconds, "
            f"not {duration_s!r}"
        )


def _lengths(name: str, value: object) -> LengthBounds:
    if isinstance(value, LengthBounds):
        return value
    if not isinstance(value, Mapping):
        raise SettingsError(f"{name} is {value!r}; give LengthBounds, or a mapping with min_us, target_us and max_us")
    _refuse_unknown(name, value, LengthBounds)
    missing = [part.name for part in dataclasses.fields(LengthBounds) if part.name not in value]
    if missing:
        raise SettingsError(f"{name} lacks {', '.join(missing)}; give min_us, target_us and max_us")
    return LengthBounds(**value)


def _refuse_unknown(where: str, values: Mapping[str, Any], kind: type) -> None:
    known = [part.name for part in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            raise SettingsError(f"{where} has the unknown setting {key!r}; use {', '.join(known)}")
