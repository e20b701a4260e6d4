"""Plan segments from a model's marks: move their boundaries to shots and pauses nearby, and split those too long."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from promptreel.media.marks import Mark
from promptreel.media.planner import MIN_PAUSE_US, STRONG_PAUSE_US, TransitionLike, range_edges, split_segment
from promptreel.media.speech import pauses as find_pauses
from promptreel.schemas.media import Boundary, MediaType, PlannedSegment, SoundActivity
from promptreel.schemas.mediatime import US_PER_SECOND
from promptreel.schemas.segmentation import SegmentationSettings

# Models see about one frame a second, so a boundary may be off by that much.
SNAP_US: Final = US_PER_SECOND


def plan_marked(
    marks: Sequence[Mark],
    media_type: MediaType,
    duration_us: int,
    transitions: Iterable[TransitionLike],
    activity: SoundActivity,
    settings: SegmentationSettings,
) -> tuple[PlannedSegment, ...]:
    """Plan the segments of an item that a model marked, in order. Time that no mark covers belongs to no segment.

    A boundary moves to the edge of the range, the nearest shot change or the middle of the nearest pause, in this order,
    within a second. Marks that are less than a second apart meet at one boundary. A segment longer than the maximum is
    split like one without a definition; its parts share its label.

    Args:
        marks: ordered, without overlaps, each at least the minimum length, inside the range of the settings.
        transitions, activity: see `promptreel.media.planner.plan_segments`.
    """
    start, end = range_edges(settings, duration_us)
    bounds = settings.bounds_of(media_type)
    min_us = min(bounds.min_us, end.time_us - start.time_us)
    shots = () if media_type == "audio" else tuple(transitions)
    evidence = _Evidence(start, end, shots, activity, duration_us)
    times, spans = _meeting(marks)
    boundaries = _snapped(times, {first for first, _ in spans}, evidence, min_us)
    plan: list[PlannedSegment] = []
    for (first, last), mark in zip(spans, marks, strict=True):
        segment = PlannedSegment(boundaries[first], boundaries[last], mark.label)
        plan += split_segment(segment, media_type, duration_us, shots, activity, bounds)
    return tuple(plan)


def _meeting(marks: Sequence[Mark]) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the times of all boundaries in order, and the positions in it of each mark's start and end.

    Where one mark starts within a second of another's end, both have one boundary.
    """
    times: list[int] = []
    spans: list[tuple[int, int]] = []
    for mark in marks:
        if not times or mark.start_us - times[-1] >= SNAP_US:
            times.append(mark.start_us)
        times.append(mark.end_us)
        spans.append((len(times) - 2, len(times) - 1))
    return times, spans


def _snapped(times: Sequence[int], starts: set[int], evidence: _Evidence, min_us: int) -> list[Boundary]:
    """Return a boundary for each time, moved to evidence unless that would make a segment too short."""
    found: list[Boundary] = []
    for number, time_us in enumerate(times):
        snapped = evidence.nearest(time_us)
        before_us = found[-1].time_us + (min_us if number - 1 in starts else 0) if found else snapped.time_us
        after_us = (
            times[number + 1] - (min_us if number in starts else 0) if number + 1 < len(times) else snapped.time_us
        )
        is_free = before_us <= snapped.time_us <= after_us
        found.append(snapped if is_free else Boundary(time_us, "definition", 0.0))
    return found


class _Evidence:
    """What a boundary of an item may move to."""

    def __init__(
        self,
        start: Boundary,
        end: Boundary,
        transitions: Iterable[TransitionLike],
        activity: SoundActivity,
        duration_us: int,
    ) -> None:
        self._edges = [start, end]
        self._shots = sorted(
            (Boundary(part.at_us, "definition", min(1.0, max(0.0, float(part.score)))) for part in transitions),
            key=_time_us,
        )
        self._pauses = [
            Boundary((gap.start_us + gap.end_us) // 2, "definition", min(1.0, gap.duration_us / STRONG_PAUSE_US))
            for gap in find_pauses(activity, duration_us, MIN_PAUSE_US)
        ]

    def nearest(self, time_us: int) -> Boundary:
        """Return the boundary to which a time moves; one at the time itself without evidence nearby."""
        first_us, last_us = (edge.time_us for edge in self._edges)
        for candidates in (self._edges, self._shots, self._pauses):
            low = bisect_left(candidates, time_us - SNAP_US, key=_time_us)
            high = bisect_right(candidates, time_us + SNAP_US, key=_time_us)
            near = [part for part in candidates[low:high] if first_us <= part.time_us <= last_us]
            if near:
                return min(near, key=lambda part: (abs(part.time_us - time_us), part.time_us))
        return Boundary(time_us, "definition", 0.0)


def _time_us(boundary: Boundary) -> int:
    return boundary.time_us
