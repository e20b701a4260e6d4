"""The segment planner: a pure function from an item's detected transitions and sound activity to its segments.

Invariants: segments cover the item, or the range of it in the settings, without gaps or overlaps, unless a fixed plan
has a hop. No segment exceeds the maximum length, except the last of a fixed plan, by less than half a second. No
segment is shorter than the minimum (half a second in a fixed plan), except an item shorter than that. An item without
boundaries that fits the maximum is one segment. Adjacent segments share a `Boundary`. The order of the input does not
matter.

`content_aware` video selects shot boundaries by strength, skipping those that would leave a segment shorter than
the minimum. `smart` video and `content_aware` audio select among all candidates by dynamic programming, the way
Knuth and Plass break paragraphs into lines ("Breaking Paragraphs into Lines", 1981). Of all plans within the
length bounds, they select the one that, in order of priority,

1. has the fewest cuts through speech,
2. has the fewest boundaries without evidence (reason "limit"),
3. has the lowest cost: each segment costs by its distance from the target length, each boundary by the weakness
   of its evidence.

Costs are integers, so plans are identical on every machine.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from promptreel.media.speech import pauses as find_pauses
from promptreel.schemas.media import Boundary, MediaType, PlannedSegment, SoundActivity, TimeSpan
from promptreel.schemas.segmentation import LengthBounds, SegmentationSettings

__all__ = ["MIN_PAUSE_US", "STRONG_PAUSE_US", "TransitionLike", "plan_segments", "range_edges", "split_segment"]

# A shorter gap in speech is a breath within a sentence. The detector ends speech after 300 ms of silence, then pads
# the speech on both sides by 30 ms (`promptreel.media.speech.SpeechSettings`).
MIN_PAUSE_US: Final = 240_000
# Pauses of at least this length have the maximum score: sentences are usually 0.5 to 1 s apart.
STRONG_PAUSE_US: Final = 1_000_000
# Precision of a detected edge of speech: one detector window (32 ms) plus the padding (30 ms). A time this close to a
# pause counts as inside it.
_EDGE_TOLERANCE_US: Final = 62_000
# Only the best candidate of each slot is considered. This bounds the work; the slot is shorter than any shot.
_SLOT_US: Final = 100_000
# Interval of the boundaries without evidence that are tried where candidates are too far apart for the maximum length.
_FILL_INTERVAL_US: Final = 1_000_000

# Costs, in millionths of the cost of a segment twice or half as long as the target.
_UNIT: Final = 1_000_000
_WEAK_COST: Final = 600_000  # a boundary with score 0; a score of 1 costs nothing
_UNPAIRED_COST: Final = 300_000  # a shot boundary outside every pause, or a pause without a shot boundary
_THROUGH_SOUND_COST: Final = 200_000  # inside sound that may not be speech: music often continues across cuts
_LIMIT_IN_SOUND_COST: Final = 2_000_000  # a boundary without evidence inside sound; less the longer the breath there

# Penalties outweigh any cost. One cut through speech outweighs all boundaries without evidence.
_LIMIT_PENALTY: Final = 1
_SPEECH_PENALTY: Final = 1 << 24
_UNREACHABLE: Final = 1 << 62

_Int64 = NDArray[np.int64]


class TransitionLike(Protocol):
    """A shot change with times in microseconds; see `promptreel.media.shots.Transition`."""

    @property
    def kind(self) -> Literal["cut", "dissolve", "fade"]: ...
    @property
    def start_us(self) -> int: ...
    @property
    def end_us(self) -> int: ...
    @property
    def at_us(self) -> int: ...
    @property
    def score(self) -> float: ...


@dataclass(frozen=True, slots=True)
class _Shot:
    """A shot change; a gradual one may be cut anywhere in [first_us, last_us]."""

    boundary: Boundary
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class _CutCandidate:
    """A possible boundary, with its penalty and cost."""

    boundary: Boundary
    penalty: int = 0
    cost: int = 0

    @property
    def time_us(self) -> int:
        return self.boundary.time_us

    @property
    def rank(self) -> tuple[int, int, int, str]:
        """Sort key, lower is better; a total order, so that the result is deterministic."""
        return (self.penalty, self.cost, self.time_us, self.boundary.reason)


def plan_segments(
    media_type: MediaType,
    duration_us: int,
    transitions: Iterable[TransitionLike],
    activity: SoundActivity,
    settings: SegmentationSettings,
) -> tuple[PlannedSegment, ...]:
    """Plan the segments of an item, in order.

    Args:
        duration_us: length in microseconds; ignored for an image, which has one segment of length 0.
        transitions: shot changes in any order. Those outside the item are ignored, and all of them for audio.
        activity: spans of speech or sound in the item.

    Raises:
        ValueError: the duration of a video or audio item is not positive, or nothing of it is in the range.
    """
    if media_type == "image":
        return (PlannedSegment(Boundary(0, "start", 1.0), Boundary(0, "end", 1.0)),)
    if duration_us <= 0:
        raise ValueError(f"duration_us is {duration_us}; it must be positive for {media_type}")
    start, end = range_edges(settings, duration_us)
    windows = settings.windows(media_type, duration_us)
    if windows is not None:
        return _window_segments(windows, start, end)
    bounds = settings.bounds_of(media_type)
    sound = _Sound(activity, duration_us)
    shots = [] if media_type == "audio" else _shots(transitions, duration_us)
    if media_type == "video" and settings.video_strategy == "content_aware":
        inner = _select_strongest([shot.boundary for shot in shots], start.time_us, end.time_us, bounds.min_us)
        return _segments(_split_long([start, *inner, end], _candidates([], sound), sound, bounds))
    return _segments(_best_boundaries(start, end, _candidates(shots, sound), sound, bounds))


def range_edges(settings: SegmentationSettings, duration_us: int) -> tuple[Boundary, Boundary]:
    """Return the first and the last boundary of an item's plan.

    Raises:
        ValueError: nothing of the item is in the range of the settings.
    """
    span = settings.range_of(duration_us)
    if span.duration_us <= 0:
        raise ValueError(f"the range of the settings leaves {span.duration_us} us of {duration_us} us")
    start = Boundary(span.start_us, "start" if span.start_us == 0 else "range", 1.0)
    return start, Boundary(span.end_us, "end" if span.end_us == duration_us else "range", 1.0)


def split_segment(
    segment: PlannedSegment,
    media_type: MediaType,
    duration_us: int,
    transitions: Iterable[TransitionLike],
    activity: SoundActivity,
    bounds: LengthBounds,
) -> tuple[PlannedSegment, ...]:
    """Return a segment in parts within the bounds, cut like an item; unchanged if it does not exceed the maximum."""
    if segment.span.duration_us <= bounds.max_us:
        return (segment,)
    sound = _Sound(activity, duration_us)
    shots = [] if media_type == "audio" else _shots(transitions, duration_us)
    parts = _segments(_best_boundaries(segment.start, segment.end, _candidates(shots, sound), sound, bounds))
    return tuple(replace(part, label=segment.label) for part in parts)


def _window_segments(windows: Iterable[TimeSpan], start: Boundary, end: Boundary) -> tuple[PlannedSegment, ...]:
    at = {start.time_us: start, end.time_us: end}

    def boundary(time_us: int) -> Boundary:
        return at.setdefault(time_us, Boundary(time_us, "window", 1.0))

    return tuple(PlannedSegment(boundary(part.start_us), boundary(part.end_us)) for part in windows)


def _segments(boundaries: Sequence[Boundary]) -> tuple[PlannedSegment, ...]:
    return tuple(PlannedSegment(one, two) for one, two in pairwise(boundaries))


# --------------------------------------------------------------------------------------------------- evidence


class _Sound:
    """Sound activity of an item, indexed by time."""

    def __init__(self, activity: SoundActivity, duration_us: int) -> None:
        gaps = find_pauses(activity, duration_us, 1)
        self.pauses = tuple(gap for gap in gaps if gap.duration_us >= MIN_PAUSE_US)
        self.breaths = tuple(gap for gap in gaps if gap.duration_us < MIN_PAUSE_US)
        self.is_speech = activity.detector == "silero"
        self._has_sound = any(span.start_us < duration_us and span.end_us > 0 for span in activity.spans)
        self._ends = [pause.end_us for pause in self.pauses]

    def is_inside(self, time_us: int) -> bool:
        """Return whether a time is within speech or sound, including breaths."""
        if not self._has_sound:
            return False
        index = bisect_left(self._ends, time_us - _EDGE_TOLERANCE_US)
        return index == len(self.pauses) or time_us < self.pauses[index].start_us - _EDGE_TOLERANCE_US

    def pauses_within(self, first_us: int, last_us: int) -> list[TimeSpan]:
        """Return the pauses that overlap [first_us, last_us], clipped to it."""
        parts = []
        for pause in self.pauses[bisect_left(self._ends, first_us) :]:
            if pause.start_us > last_us:
                break
            parts.append(TimeSpan(max(first_us, pause.start_us), min(last_us, pause.end_us)))
        return parts


def _shots(transitions: Iterable[TransitionLike], duration_us: int) -> list[_Shot]:
    """Return the shot changes inside the item in order, the strongest one at each time. Dissolves get the reason
    "fade"."""
    strongest: dict[int, _Shot] = {}
    for transition in transitions:
        if 0 < transition.at_us < duration_us:
            score = min(1.0, max(0.0, float(transition.score)))
            shot = _Shot(
                Boundary(transition.at_us, "cut" if transition.kind == "cut" else "fade", score),
                max(1, min(transition.start_us, transition.at_us)),
                min(duration_us - 1, max(transition.end_us, transition.at_us)),
            )
            previous = strongest.get(transition.at_us)
            if previous is None or _strength(shot) > _strength(previous):
                strongest[transition.at_us] = shot
    return [strongest[time_us] for time_us in sorted(strongest)]


def _strength(shot: _Shot) -> tuple[float, str, int, int]:
    return (shot.boundary.score, shot.boundary.reason, -shot.first_us, shot.last_us)


def _select_strongest(boundaries: Sequence[Boundary], first_us: int, last_us: int, min_us: int) -> list[Boundary]:
    """Select boundaries greedily by score, skipping those that would leave a segment shorter than the minimum; among
    equal scores the earlier one wins. Returns them in order of time."""
    times = [first_us, last_us]
    selected: list[Boundary] = []
    inside = (boundary for boundary in boundaries if first_us < boundary.time_us < last_us)
    for boundary in sorted(inside, key=lambda b: (-b.score, b.time_us)):
        index = bisect_left(times, boundary.time_us)
        if boundary.time_us - times[index - 1] >= min_us and times[index] - boundary.time_us >= min_us:
            times.insert(index, boundary.time_us)
            selected.append(boundary)
    return sorted(selected, key=lambda b: b.time_us)


# ------------------------------------------------------------------------------------------------- candidates


def _candidates(shots: Sequence[_Shot], sound: _Sound) -> list[_CutCandidate]:
    """Return the candidates in order, at most one per slot: shot changes and pauses, plus boundaries without evidence in
    long pauses and in breaths, in case the maximum length requires them."""
    candidates = [_shot_candidate(shot, sound) for shot in shots]
    for pause in sound.pauses:
        middle = Boundary(_middle(pause), "pause", min(1.0, pause.duration_us / STRONG_PAUSE_US))
        candidates.append(_CutCandidate(middle, 0, _evidence_cost(middle.score) + _UNPAIRED_COST))
        fill_times = range(pause.start_us + _FILL_INTERVAL_US, pause.end_us, _FILL_INTERVAL_US)
        candidates += [_limit_candidate(time_us, sound) for time_us in fill_times]
    for breath in sound.breaths:
        candidates.append(_limit_candidate(_middle(breath), sound, breath.duration_us))
    best: dict[int, _CutCandidate] = {}
    for candidate in candidates:
        slot = candidate.time_us // _SLOT_US
        if slot not in best or candidate.rank < best[slot].rank:
            best[slot] = candidate
    return [best[slot] for slot in sorted(best)]


def _shot_candidate(shot: _Shot, sound: _Sound) -> _CutCandidate:
    """Return the candidate for a shot change. A gradual change whose middle is inside speech is moved to the overlapping
    pause closest to that middle, if any."""
    boundary = shot.boundary
    if sound.is_inside(boundary.time_us):
        middles = [_middle(pause) for pause in sound.pauses_within(shot.first_us, shot.last_us)]
        if middles:
            nearest = min(middles, key=lambda time_us: (abs(time_us - boundary.time_us), time_us))
            boundary = Boundary(nearest, boundary.reason, boundary.score)
    cost = _evidence_cost(boundary.score)
    if not sound.is_inside(boundary.time_us):
        return _CutCandidate(boundary, 0, cost if sound.pauses else cost + _UNPAIRED_COST)
    if sound.is_speech:
        return _CutCandidate(boundary, _SPEECH_PENALTY, cost + _UNPAIRED_COST)
    return _CutCandidate(boundary, 0, cost + _UNPAIRED_COST + _THROUGH_SOUND_COST)


def _limit_candidate(time_us: int, sound: _Sound, breath_us: int = 0) -> _CutCandidate:
    """Return a boundary without evidence. It costs least outside sound, otherwise less the longer the breath."""
    boundary = Boundary(time_us, "limit", 0.0)
    if not sound.is_inside(time_us):
        return _CutCandidate(boundary, _LIMIT_PENALTY)
    penalty = _LIMIT_PENALTY + (_SPEECH_PENALTY if sound.is_speech else 0)
    return _CutCandidate(boundary, penalty, _LIMIT_IN_SOUND_COST * (MIN_PAUSE_US - breath_us) // MIN_PAUSE_US)


def _evidence_cost(score: float) -> int:
    return round(_WEAK_COST * (1 - score))


def _middle(span: TimeSpan) -> int:
    return (span.start_us + span.end_us) // 2


# -------------------------------------------------------------------------------------------------- selection


def _split_long(
    boundaries: Sequence[Boundary], candidates: Sequence[_CutCandidate], sound: _Sound, bounds: LengthBounds
) -> list[Boundary]:
    """Split segments longer than the maximum, preferably at the candidates."""
    times = [candidate.time_us for candidate in candidates]
    result = [boundaries[0]]
    for start, end in pairwise(boundaries):
        if end.time_us - start.time_us > bounds.max_us:
            inside = candidates[bisect_right(times, start.time_us) : bisect_left(times, end.time_us)]
            result += _best_boundaries(start, end, inside, sound, bounds)[1:]
        else:
            result.append(end)
    return result


def _best_boundaries(
    start: Boundary, end: Boundary, candidates: Sequence[_CutCandidate], sound: _Sound, bounds: LengthBounds
) -> list[Boundary]:
    """Return the boundaries from start to end with the lowest penalty, and among those the lowest cost."""
    inner = [candidate for candidate in candidates if start.time_us < candidate.time_us < end.time_us]
    nodes = [_CutCandidate(start), *_fill_gaps(start, end, inner, sound, bounds), _CutCandidate(end)]
    return [nodes[index].boundary for index in _cheapest_path(nodes, bounds)]


def _fill_gaps(
    start: Boundary, end: Boundary, inner: Sequence[_CutCandidate], sound: _Sound, bounds: LengthBounds
) -> list[_CutCandidate]:
    """Add boundaries without evidence until neighbours are at most `max_us - 2 * min_us` apart.

    This guarantees a path: from every candidate with more than `max_us` left, another candidate is within the length
    bounds and leaves at least `min_us`.
    """
    max_gap_us = bounds.max_us - 2 * bounds.min_us
    step_us = min(_FILL_INTERVAL_US, max_gap_us)
    times = [start.time_us, *(candidate.time_us for candidate in inner), end.time_us]
    filled: list[_CutCandidate] = []
    for index, (left_us, right_us) in enumerate(pairwise(times)):
        if right_us - left_us > max_gap_us:
            filled += [_limit_candidate(time_us, sound) for time_us in range(left_us + step_us, right_us, step_us)]
        if index < len(inner):
            filled.append(inner[index])
    return filled


def _cheapest_path(nodes: Sequence[_CutCandidate], bounds: LengthBounds) -> list[int]:
    """Return the indices of the best path from the first node to the last with all segments within the bounds.

    Takes O(n * k) time for n nodes, k of them within one maximum length. Ties are resolved from the end backwards, in
    favour of the earlier node.
    """
    times = np.array([node.time_us for node in nodes], np.int64)
    node_penalties = np.array([node.penalty for node in nodes], np.int64)
    node_costs = np.array([node.cost for node in nodes], np.int64)
    min_us = min(bounds.min_us, nodes[-1].time_us - nodes[0].time_us)
    firsts = np.searchsorted(times, times - bounds.max_us, side="left").tolist()
    lasts = np.searchsorted(times, times - min_us, side="right").tolist()
    penalty = np.full(len(nodes), _UNREACHABLE, np.int64)
    cost = np.zeros(len(nodes), np.int64)
    penalty[0] = 0
    previous = [0] * len(nodes)
    for node in range(1, len(nodes)):
        before = slice(firsts[node], lasts[node])
        lowest = penalty[before].min(initial=_UNREACHABLE)
        if lowest == _UNREACHABLE:
            continue
        sums = cost[before] + _length_costs(times[node] - times[before], bounds.target_us)
        sums[penalty[before] > lowest] = _UNREACHABLE
        best = int(sums.argmin())
        previous[node] = before.start + best
        penalty[node] = lowest + node_penalties[node]
        cost[node] = sums[best] + node_costs[node]
    assert penalty[-1] < _UNREACHABLE, "filled gaps guarantee a path from start to end"
    path = [len(nodes) - 1]
    while path[-1] != 0:
        path.append(previous[path[-1]])
    return path[::-1]


def _length_costs(lengths_us: _Int64, target_us: int) -> _Int64:
    """Return the cost of each segment length, int64[k].

    0 at the target, one unit at twice and at half of it, growing with the square of the ratio, so that equal lengths cost
    less than unequal ones. Computed in milliseconds, whose squares fit into 64 bits.
    """
    lengths_ms, target_ms = np.maximum(lengths_us // 1000, 1), target_us // 1000
    longer = np.maximum(lengths_ms, target_ms)
    shorter = np.minimum(lengths_ms, target_ms)
    return np.asarray((_UNIT * longer**2 // shorter**2 - _UNIT) // 3, dtype=np.int64)
