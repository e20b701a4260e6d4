"""Segmentation settings.

>>> SegmentationSettings(video_strategy="fixed", video_duration_s=30).window_us("video")
30000000
>>> SegmentationSettings().bounds_of("video").target_us
12000000
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from promptreel.schemas.decoding import FORBID_UNKNOWN
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.media import MediaType, TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND, us_from_seconds
from promptreel.schemas.strategies import (
    AUDIO_STRATEGIES,
    DEFAULT_AUDIO_STRATEGY,
    DEFAULT_VIDEO_STRATEGY,
    IMAGE_STRATEGY,
    MAX_DEFINITION_CHARS,
    MAX_HOP_S,
    MAX_WINDOW_S,
    MIN_HOP_S,
    MIN_RANGE_S,
    MIN_WINDOW_S,
    VIDEO_STRATEGIES,
    AudioStrategy,
    Strategy,
    VideoStrategy,
)
from promptreel.schemas.windows import MIN_LENGTH_US, fixed_windows, window_starts

PLANNER_VERSION: Final = 1  # part of every segment id: increment it when the same input would be cut differently

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
        if self.min_us < MIN_LENGTH_US:
            raise SettingsError(f"segment length min_us is {self.min_us}; it must be at least {MIN_LENGTH_US}")
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
# Segments that a model marks: as long as what they show, but no shorter than the error of both boundaries, which a model
# that sees one frame a second places to about a second, and no longer than any other segment.
DEFINED: Final = LengthBounds(2 * US_PER_SECOND, 120 * US_PER_SECOND, _MAX_LENGTH_US)
# The strategies that a definition can guide.
DEFINED_STRATEGIES: Final[dict[str, Strategy]] = {"video": "smart", "audio": "content_aware"}


@dataclass(frozen=True, slots=True)
class SegmentationSettings:
    """Segmentation strategy and lengths for each media type.

    Attributes:
        video_strategy: "smart" considers shots and speech, "content_aware" follows shots, "fixed" uses equal windows.
        audio_strategy: "content_aware" follows pauses, "fixed" uses equal windows.
        video_duration_s, audio_duration_s: window length in whole seconds, 1 to 300; required for the strategy "fixed",
            not allowed otherwise. The last window ends with the item; it is up to half a second longer, or shorter.
        smart_lengths, shot_lengths, pause_lengths: lengths for smart video, content_aware video and content_aware audio.
        hop_s: whole seconds from the start of one fixed window to the next, 1 to 3600; None is the window's length. With
            a shorter hop the windows overlap, with a longer one they leave gaps.
        start_s, end_s: the part of each video and audio item to segment, in seconds; None is the item's end.
        segments_by: the user's words for what one segment is. A model marks such segments in smart video and
            content_aware audio; what fits no segment belongs to none. None follows shots and pauses alone.

    Raises:
        SettingsError: a strategy is unknown, a window is missing, not allowed or out of range, a hop has no fixed window,
            the range is shorter than half a second, or a definition is blank, too long, or not for smart video.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    video_strategy: VideoStrategy = DEFAULT_VIDEO_STRATEGY
    audio_strategy: AudioStrategy = DEFAULT_AUDIO_STRATEGY
    video_duration_s: int | None = None
    audio_duration_s: int | None = None
    smart_lengths: LengthBounds = SMART
    shot_lengths: LengthBounds = SHOTS
    pause_lengths: LengthBounds = PAUSES
    hop_s: int | None = None
    start_s: float = 0.0
    end_s: float | None = None
    segments_by: str | None = None

    def __post_init__(self) -> None:
        _check("video", self.video_strategy, VIDEO_STRATEGIES, self.video_duration_s)
        _check("audio", self.audio_strategy, AUDIO_STRATEGIES, self.audio_duration_s)
        if self.hop_s is not None:
            _check_hop(self.hop_s, (self.video_strategy, self.audio_strategy))
        _check_range(self.start_s, self.end_s)
        if self.segments_by is not None:
            _check_definition(self.segments_by, self.video_strategy)

    def strategy_of(self, media_type: MediaType) -> Strategy:
        """Return the strategy for a media type; an image is one segment."""
        if media_type == "image":
            return IMAGE_STRATEGY
        return self.video_strategy if media_type == "video" else self.audio_strategy

    def definition_of(self, media_type: MediaType) -> str | None:
        """Return the definition by which a model marks the segments of a media type; None if it does not."""
        return self.segments_by if self.strategy_of(media_type) == DEFINED_STRATEGIES.get(media_type) else None

    def range_of(self, duration_us: int) -> TimeSpan:
        """Return the part of a video or audio item to segment; empty if the item ends before the range starts."""
        start_us = min(us_from_seconds(self.start_s), duration_us)
        return TimeSpan(start_us, duration_us if self.end_s is None else min(us_from_seconds(self.end_s), duration_us))

    def window_us(self, media_type: MediaType) -> int | None:
        """Return the window in microseconds if the strategy is "fixed", otherwise None."""
        window_s = {"video": self.video_duration_s, "audio": self.audio_duration_s}.get(media_type)
        return None if window_s is None else window_s * US_PER_SECOND

    def windows(self, media_type: MediaType, duration_us: int) -> list[TimeSpan] | None:
        """Return the windows of an item if the strategy is "fixed", otherwise None."""
        window_us = self.window_us(media_type)
        return (
            None if window_us is None else fixed_windows(self.range_of(duration_us), window_us, self._hop_us(window_us))
        )

    def _hop_us(self, window_us: int) -> int:
        return window_us if self.hop_s is None else self.hop_s * US_PER_SECOND

    def bounds_of(self, media_type: MediaType) -> LengthBounds:
        """Return the length bounds of the smart or content_aware strategy for a media type."""
        if self.definition_of(media_type) is not None:
            return DEFINED
        if media_type == "audio":
            return self.pause_lengths
        return self.smart_lengths if self.video_strategy == "smart" else self.shot_lengths

    def segment_bounds(self, media_type: MediaType, duration_us: int | None) -> tuple[int, int]:
        """Return the minimum and maximum number of segments of an item.

        Both are exact for an image (1) and for fixed windows. Without a known duration both are 1, the least possible.
        """
        if media_type == "image" or not duration_us:
            return 1, 1
        window_us, span = self.window_us(media_type), self.range_of(duration_us)
        if window_us is not None:
            count = len(window_starts(span, window_us, self._hop_us(window_us)))
            return count, count
        length_us = span.duration_us
        lengths = self.bounds_of(media_type)
        if self.definition_of(media_type) is not None:
            return 0, max(int(length_us > 0), length_us // lengths.min_us)
        minimum = -(-length_us // lengths.max_us)
        return minimum, max(minimum, length_us // lengths.min_us)

    def expected_segments(self, media_type: MediaType, duration_us: int | None) -> int:
        """Return the number of segments of an item whose segments have their target length."""
        least, most = self.segment_bounds(media_type, duration_us)
        if least == most or not duration_us:
            return least
        count = round(self.range_of(duration_us).duration_us / self.bounds_of(media_type).target_us)
        return min(most, max(least, count))

    def segment_lengths(self, media_type: MediaType, duration_us: int | None, count: int) -> dict[float, int]:
        """Return the number of segments of each length in microseconds; exact for fixed windows, otherwise equal lengths.

        Args:
            count: number of segments, see `segment_bounds` and `expected_segments`.
        """
        if not count or not duration_us or media_type == "image":
            return {(duration_us or 0): count} if count else {}
        window_us, span = self.window_us(media_type), self.range_of(duration_us)
        if window_us is None:
            return {span.duration_us / count: count}
        hop_us = self._hop_us(window_us)
        left_us = span.duration_us - (count - 1) * hop_us
        last_us = left_us if hop_us <= window_us else min(window_us, left_us)
        return dict(Counter({window_us: count - 1}) + Counter({last_us: 1}))

    def segment_count(self, media_type: MediaType, duration_us: int | None) -> int | None:
        """Return the number of segments of an item; None if only its content can tell."""
        if media_type != "image" and not duration_us:
            return None
        least, most = self.segment_bounds(media_type, duration_us)
        return least if least == most else None

    def identity(self, media_type: MediaType) -> dict[str, Any]:
        """Return the settings that determine the segments of a media type besides their times; part of segment ids.

        Hop and range are not among them: the same stretch of an item has the same id under any of them.
        """
        if media_type == "image":
            return {"strategy": IMAGE_STRATEGY}
        window_us = self.window_us(media_type)
        if window_us is not None:
            return {"version": PLANNER_VERSION, "strategy": "fixed", "window_us": window_us}
        definition = self.definition_of(media_type)
        return {
            "version": PLANNER_VERSION,
            "strategy": self.strategy_of(media_type),
            **dataclasses.asdict(self.bounds_of(media_type)),
            **({} if definition is None else {"segments_by": definition}),
        }


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


def _check_hop(hop_s: int, strategies: tuple[str, ...]) -> None:
    if "fixed" not in strategies:
        raise SettingsError(
            f"hop_s is {hop_s!r}, but neither video nor audio segmentation is fixed; set a window length or remove the hop"
        )
    if isinstance(hop_s, bool) or not isinstance(hop_s, int) or not MIN_HOP_S <= hop_s <= MAX_HOP_S:
        raise SettingsError(f"hop_s is {hop_s!r}; it must be {MIN_HOP_S} to {MAX_HOP_S} whole seconds")


def _check_range(start_s: float, end_s: float | None) -> None:
    for name, value in (("start_s", start_s), ("end_s", 0 if end_s is None else end_s)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise SettingsError(f"{name} is {value!r}; it must be a number of seconds, 0 or more")
    if end_s is not None and end_s - start_s < MIN_RANGE_S:
        raise SettingsError(
            f"the range ends at {end_s:g} s, but starts at {start_s:g} s; it must last at least {MIN_RANGE_S:g} s"
        )


def _check_definition(segments_by: str, video_strategy: str) -> None:
    if not isinstance(segments_by, str) or not segments_by.strip() or len(segments_by) > MAX_DEFINITION_CHARS:
        raise SettingsError(
            f"segments_by is {segments_by!r:.80}; say in 1 to {MAX_DEFINITION_CHARS} characters what one segment is, e.g. "
            "'one segment per product shown'"
        )
    if video_strategy != "smart":
        raise SettingsError(
            f"segments_by is {segments_by!r:.80}, but video segmentation is {video_strategy!r}; use smart segmentation"
        )
