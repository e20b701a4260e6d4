"""Changes of shot, and which of several that overlap count."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of shot. Times are presentation times in microseconds."""

    kind: Literal["cut", "dissolve", "fade"]
    start_us: int
    """Last moment wholly of the old shot; equal to `at_us` for a cut."""
    end_us: int
    """First moment wholly of the new shot; equal to `at_us` for a cut."""
    at_us: int
    """Where a boundary belongs: a cut's first new frame, a dissolve's centre, a fade's blankest moment."""
    score: float
    """Strength, 0..1."""


def overlaps(one: Transition, others: list[Transition]) -> bool:
    """Whether a transition shares a moment with one of the others."""
    return any(one.start_us <= other.end_us and other.start_us <= one.end_us for other in others)


def select_strongest(found: list[Transition], spans: list[tuple[int, int]]) -> list[Transition]:
    """The transitions in order of score whose spans (both ends included) are clear of those taken before."""
    taken: list[Transition] = []
    taken_spans: list[tuple[int, int]] = []  # sorted; they never overlap, so only the two neighbours matter
    for number in sorted(range(len(found)), key=lambda n: (-found[n].score, spans[n])):
        span = spans[number]
        at = bisect.bisect(taken_spans, span)
        if at > 0 and taken_spans[at - 1][1] >= span[0]:
            continue
        if at < len(taken_spans) and taken_spans[at][0] <= span[1]:
            continue
        taken_spans.insert(at, span)
        taken.append(found[number])
    return taken


def strongest(found: list[Transition], min_gap_us: int) -> tuple[Transition, ...]:
    """The transitions in order of time, without those nearer than `min_gap_us` to a stronger one."""
    taken = select_strongest(found, [(t.at_us, t.at_us + min_gap_us - 1) for t in found])
    return tuple(sorted(taken, key=lambda t: t.at_us))
