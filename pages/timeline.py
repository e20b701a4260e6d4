"""The timeline of an item: a block for each segment, in lanes where segments overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

UNITS: Final = 1000  # width of a timeline
MAX_LANES: Final = 4
_MIN_WIDTH: Final = 1.0


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of an item to draw, in microseconds."""

    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class TimelineBlock:
    """A segment on a timeline: left edge and width in `UNITS`, and its lane, from 0."""

    x: float
    width: float
    lane: int


def blocks(spans: Sequence[Span], duration_us: int) -> tuple[TimelineBlock, ...]:
    """Place spans, which are sorted by their starts, on the timeline of an item.

    A span goes into the first lane that is free; beyond `MAX_LANES`, blocks share the last lane.
    """
    length = max([duration_us, *(span.end_us for span in spans)], default=0) or 1
    ends: list[int] = []
    placed = []
    for span in spans:
        lane = next((lane for lane, end in enumerate(ends) if end <= span.start_us), len(ends))
        if lane == len(ends):
            ends.append(span.end_us)
        lane = min(lane, MAX_LANES - 1)
        ends[lane] = max(ends[lane], span.end_us)
        x = round(span.start_us / length * UNITS, 2)
        width = round(max(_MIN_WIDTH, (span.end_us - span.start_us) / length * UNITS), 2)
        placed.append(TimelineBlock(x, min(width, UNITS - x) if x < UNITS else _MIN_WIDTH, lane))
    return tuple(placed)


def lane_count(lanes: Iterable[int]) -> int:
    """Return the number of lanes of a timeline from the lanes of its blocks."""
    return max(lanes, default=0) + 1
