"""Evidence for the segment planner, in seconds: transitions, sound activity and length bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from promptreel.schemas.media import SoundActivity, TimeSpan
from promptreel.schemas.segmentation import LengthBounds, SegmentationSettings

SECOND = 1_000_000
SILENT = SoundActivity("none")
SMART = SegmentationSettings()
SHOTS = SegmentationSettings(video_strategy="content_aware")


@dataclass(frozen=True)
class Change:
    """A transition with the fields that the planner reads."""

    kind: Literal["cut", "dissolve", "fade"]
    start_us: int
    end_us: int
    at_us: int
    score: float = 0.9


def cut(at_s: float, score: float = 0.9) -> Change:
    at = round(at_s * SECOND)
    return Change("cut", at, at, at, score)


def dissolve(start_s: float, end_s: float, score: float = 0.9) -> Change:
    start, end = round(start_s * SECOND), round(end_s * SECOND)
    return Change("dissolve", start, end, (start + end) // 2, score)


def sound(*spans_s: tuple[float, float], by: Literal["silero", "level"] = "silero") -> SoundActivity:
    return SoundActivity(by, tuple(TimeSpan(round(a * SECOND), round(b * SECOND)) for a, b in spans_s))


def lengths(min_s: float, target_s: float, max_s: float) -> LengthBounds:
    return LengthBounds(*(round(part * SECOND) for part in (min_s, target_s, max_s)))
