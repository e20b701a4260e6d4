"""The options that say how items are cut into segments, and the settings that they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from promptreel.schemas.errors import SettingsError
from promptreel.schemas.media_times import seconds_of
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.strategies import (
    AUDIO_STRATEGIES,
    DEFAULT_AUDIO_STRATEGY,
    DEFAULT_VIDEO_STRATEGY,
    MAX_HOP_S,
    MAX_WINDOW_S,
    MIN_HOP_S,
    MIN_WINDOW_S,
    VIDEO_STRATEGIES,
)

_WINDOW_S = click.IntRange(MIN_WINDOW_S, MAX_WINDOW_S)


if TYPE_CHECKING:
    _TimeType = click.ParamType[float]
else:
    _TimeType = click.ParamType  # generic from click 8.4 on


class _Time(_TimeType):
    """A time of an item: seconds, m:ss or h:mm:ss."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return value
        seconds = seconds_of(value)
        if seconds is None:
            self.fail(f"{value!r} is not a time; use seconds or a clock time, e.g. 90, 1:30 or 0:01:30.5", param, ctx)
        return seconds


SEGMENTATION_OPTIONS: Final = [
    click.option(
        "--video-segmentation",
        type=click.Choice(VIDEO_STRATEGIES),
        default=DEFAULT_VIDEO_STRATEGY,
        show_default=True,
        help="Segmentation of videos.",
    ),
    click.option(
        "--video-segment-seconds",
        type=_WINDOW_S,
        metavar="N",
        help="Length of fixed video segments, in seconds. The last one is up to half a second longer, or shorter.",
    ),
    click.option(
        "--audio-segmentation",
        type=click.Choice(AUDIO_STRATEGIES),
        default=DEFAULT_AUDIO_STRATEGY,
        show_default=True,
        help="Segmentation of audio.",
    ),
    click.option(
        "--audio-segment-seconds",
        type=_WINDOW_S,
        metavar="N",
        help="Length of fixed audio segments, in seconds, like those of video.",
    ),
    click.option(
        "--window",
        type=_WINDOW_S,
        metavar="N",
        help="Cut video and audio into fixed segments of this many seconds.",
    ),
    click.option(
        "--hop",
        type=click.IntRange(MIN_HOP_S, MAX_HOP_S),
        metavar="N",
        help="Seconds from the start of one fixed segment to the next: a shorter hop than the segment overlaps them, a "
        "longer one leaves gaps. [default: their length]",
    ),
    click.option(
        "--start", type=_Time(), default=0, metavar="TIME", help="Segment each item from this time, e.g. 90 or 1:30."
    ),
    click.option(
        "--segments-by",
        metavar="TEXT",
        help="What one segment is, in your words, e.g. 'one segment per product shown'; the model marks the segments of "
        "smart video and content_aware audio.",
    ),
    click.option("--end", type=_Time(), metavar="TIME", help="Segment each item up to this time. [default: its end]"),
    click.option(
        "--dedupe-segments",
        is_flag=True,
        help="Call the model once for neighbouring segments that are near-duplicates: the same still picture, e.g. a slide, "
        "without speech.",
    ),
]


def segmentation_of(options: Mapping[str, Any]) -> SegmentationSettings:
    """Build the segmentation settings from option values.

    Raises:
        SettingsError: options contradict each other.
    """
    video, audio = (_strategy_of(kind, options) for kind in ("video", "audio"))
    return SegmentationSettings(
        video_strategy=video[0],
        audio_strategy=audio[0],
        video_duration_s=video[1],
        audio_duration_s=audio[1],
        hop_s=options["hop"],
        start_s=options["start"],
        end_s=options["end"],
        segments_by=options["segments_by"],
    )


def _strategy_of(kind: str, options: Mapping[str, Any]) -> tuple[Any, int | None]:
    """Return the strategy and the window of a media type."""
    strategy, length, window = options[f"{kind}_segmentation"], options[f"{kind}_segment_seconds"], options["window"]
    if window is None:
        return strategy, length
    context = click.get_current_context(silent=True)
    is_chosen = (
        context is not None and context.get_parameter_source(f"{kind}_segmentation") is ParameterSource.COMMANDLINE
    )
    if is_chosen and strategy != "fixed":
        raise SettingsError(
            f"--window is {window}, but --{kind}-segmentation is {strategy!r}; a window is for fixed segmentation, so "
            "remove one of them"
        )
    if length is not None:
        raise SettingsError(f"--window is {window} and --{kind}-segment-seconds is {length}; give one of them")
    return "fixed", window
