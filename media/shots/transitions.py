"""Shot changes, and the selection among those that overlap."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Transition:
    """One shot change. Times are presentation times in microseconds."""

    kind: Literal["cut", "dissolve", "fade"]
    start_us: int
    """Last time that only shows the old shot; equal to `at_us` for a cut."""
    end_us: int
    """First time that only shows the new shot; equal to `at_us` for a cut."""
    at_us: int
    """Boundary: the first new frame of a cut, the centre of a dissolve, the blankest time of a fade, or the edge of
    the blank frames if the film starts or ends with them."""
    score: float
    """Strength, 0..1."""


def overlaps(one: Transition, others: list[Transition]) -> bool:
    """Return whether a transition overlaps one of the others."""
    return any(one.start_us <= other.end_us and other.start_us <= one.end_us for other in others)


def select_strongest(found: list[Transition], spans: list[tuple[int, int]]) -> list[Transition]:
    """Select transitions by descending score whose spans (including both ends) overlap none selected before."""
    selected: list[Transition] = []
    selected_spans: list[tuple[int, int]] = []  # sorted; they never overlap, so only the two neighbours matter
    for number in sorted(range(len(found)), key=lambda n: (-found[n].score, spans[n])):
        span = spans[number]
        at = bisect.bisect(selected_spans, span)
        if at > 0 and selected_spans[at - 1][1] >= span[0]:
            continue
        if at < len(selected_spans) and selected_spans[at][0] <= span[1]:
            continue
        selected_spans.insert(at, span)
        selected.append(found[number])
    return selected


def strongest(found: list[Transition], min_gap_us: int) -> tuple[Transition, ...]:
    """Return the transitions in order of time, without those within `min_gap_us` of a stronger one."""
    selected = select_strongest(found, [(t.at_us, t.at_us + min_gap_us - 1) for t in found])
    return tuple(sorted(selected, key=lambda t: t.at_us))
