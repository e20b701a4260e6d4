"""Segments that a model marked in overlapping stretches of an item, joined into one list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from promptreel.schemas.media import TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND
from promptreel.schemas.windows import fixed_windows

# A stretch is what a model sees at once. In three minutes it places a boundary to about a second, and a small clip of it
# fits into one request. Two views of the same 20 s show whether a segment continues into the next stretch.
STRETCH_US: Final = 180 * US_PER_SECOND
SHARED_US: Final = 20 * US_PER_SECOND
# Two marks are the same segment if they share at least this part of the time that both cover in the shared time.
_SAME_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Mark:
    """One segment as a model marked it, in microseconds of the item."""

    start_us: int
    end_us: int
    label: str


def plan_stretches(span: TimeSpan) -> list[TimeSpan]:
    """Return the stretches of an item's range, in order; neighbours share 20 s."""
    return fixed_windows(span, STRETCH_US, STRETCH_US - SHARED_US)


def stitch_marks(views: Sequence[tuple[TimeSpan, Sequence[Mark]]], min_us: int) -> list[Mark]:
    """Join the marks of overlapping stretches, in order of time and without overlaps.

    In the time that two stretches share, the first counts up to the middle and the second from there, because a model knows
    least about the edges of what it sees. A segment across the middle that both marked is one segment.

    Args:
        views: each stretch with its marks.
        min_us: what is left of a mark after clipping is dropped if it is shorter.
    """
    if not views:
        return []
    joined = list(views[0][1])
    for (before, _), (after, marks) in pairwise(views):
        joined = _join(joined, marks, TimeSpan(after.start_us, before.end_us))
    return _without_overlaps(joined, min_us)


def _join(before: Sequence[Mark], after: Sequence[Mark], shared: TimeSpan) -> list[Mark]:
    seam_us = (shared.start_us + shared.end_us) // 2
    left = [mark for mark in before if mark.start_us < seam_us]
    right = [mark for mark in after if mark.end_us > seam_us]
    if not (left and right and left[-1].end_us > seam_us > right[0].start_us):
        return [*left, *right]
    one, two = left[-1], right[0]
    if _shared_part(one, two, shared) < _SAME_SHARE:
        return [*left[:-1], replace(one, end_us=seam_us), replace(two, start_us=seam_us), *right[1:]]
    label = one.label if one.end_us - one.start_us >= two.end_us - two.start_us else two.label
    return [*left[:-1], Mark(one.start_us, max(two.end_us, seam_us), label), *right[1:]]


def _shared_part(one: Mark, two: Mark, shared: TimeSpan) -> float:
    """Return how much of the time that either mark covers, within the shared time, both cover."""
    starts = [max(mark.start_us, shared.start_us) for mark in (one, two)]
    ends = [min(mark.end_us, shared.end_us) for mark in (one, two)]
    return (min(ends) - max(starts)) / (max(ends) - min(starts))


def _without_overlaps(marks: Sequence[Mark], min_us: int) -> list[Mark]:
    found: list[Mark] = []
    for mark in marks:
        start_us = max(mark.start_us, found[-1].end_us) if found else mark.start_us
        if mark.end_us - start_us >= min_us:
            found.append(replace(mark, start_us=start_us))
    return found
