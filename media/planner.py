"""The segment planner: a pure function from what was found in an item to its segments.

What always holds: segments cover [0, duration) without gap or overlap; none is longer than the maximum; none
is shorter than the minimum unless the item, or the rest of a fixed plan, is; an item without boundaries that
fits the maximum is one segment; neighbours share one `Boundary`; the order of the input does not matter.

`content_aware` video keeps every shot boundary that leaves no segment shorter than the minimum, strongest
first. `smart` video and `content_aware` audio choose among all candidates by dynamic programming, as Knuth
and Plass break paragraphs into lines ("Breaking Paragraphs into Lines", 1981). Of all plans within the bounds
it is the one that

1. cuts through speech least often, then
2. has the fewest boundaries without evidence (reason "limit"), then
3. costs least: every segment by its distance from the target length, every boundary by how weak its
   evidence is.

Costs are whole numbers, so plans are equal on every machine.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from promptreel.media.speech import pauses as find_pauses
from promptreel.schemas.media import Boundary, MediaType, PlannedSegment, SoundActivity, TimeSpan
from promptreel.schemas.segmentation import LengthBounds, SegmentationSettings

__all__ = ["TransitionLike", "plan_segments"]

# A shorter gap between two stretches of speech is a breath inside a sentence. The detector takes 300 ms of
# silence for a pause, and then widens the speech on both sides of it by 30 ms
# (`promptreel.media.speech.SpeechSettings`).
MIN_PAUSE_US: Final = 240_000
# A pause of this length or more is as strong as evidence gets: sentences are usually 0.5 to 1 s apart.
STRONG_PAUSE_US: Final = 1_000_000
# The edge of speech is known to one window of the detector (32 ms) and its padding (30 ms): a moment this
# near to a pause lies in it.
_EDGE_US: Final = 62_000
# Of candidates in one slot of this length the best is kept: it bounds the work, and is shorter than any shot.
_SLOT_US: Final = 100_000
# Boundaries without evidence are tried this far apart, where candidates lie too far apart for the maximum.
_FILL_US: Final = 1_000_000

# Costs in millionths of "a segment twice or half as long as the target".
_UNIT: Final = 1_000_000
_WEAK: Final = 600_000  # a boundary whose score is 0; one of score 1 is free
_ALONE: Final = 300_000  # a picture boundary outside every pause, or a pause without one
_THROUGH_SOUND: Final = 200_000  # inside sound that need not be speech: music often goes on over cuts
_UNQUIET: Final = 2_000_000  # a boundary without evidence inside sound; the longer the gap there is, the less

# Harm: what weighs more than any cost. One cut through speech outweighs all boundaries without evidence.
_LIMIT: Final = 1
_THROUGH_SPEECH: Final = 1 << 24
_NO_WAY: Final = 1 << 62

_Int64 = NDArray[np.int64]


class TransitionLike(Protocol):
    """A change of shot in microseconds, as `promptreel.media.shots.Transition` gives it."""

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
    """Where a shot changes; a gradual change may be cut anywhere in [first_us, last_us]."""

    boundary: Boundary
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class _CutCandidate:
    """Where the item may be cut, and what that costs."""

    boundary: Boundary
    harm: int = 0
    cost: int = 0

    @property
    def time_us(self) -> int:
        return self.boundary.time_us

    @property
    def rank(self) -> tuple[int, int, int, str]:
        """Lower is better; no two places that differ are equal."""
        return (self.harm, self.cost, self.time_us, self.boundary.reason)


def plan_segments(
    media_type: MediaType,
    duration_us: int,
    transitions: Iterable[TransitionLike],
    activity: SoundActivity,
    settings: SegmentationSettings,
) -> tuple[PlannedSegment, ...]:
    """The segments of one item, in order.

    Args:
        duration_us: length in microseconds; ignored for an image, which has one segment of length 0.
        transitions: changes of shot in any order; those outside the item are ignored, and all of them for
            audio.
        activity: where the item is heard.

    Raises:
        ValueError: the duration of a video or audio item is not positive.
    """
    if media_type == "image":
        return (PlannedSegment(Boundary(0, "start", 1.0), Boundary(0, "end", 1.0)),)
    if duration_us <= 0:
        raise ValueError(f"duration_us is {duration_us}; it must be positive for {media_type}")
    start, end = Boundary(0, "start", 1.0), Boundary(duration_us, "end", 1.0)
    window_us = settings.window_us(media_type)
    if window_us is not None:
        inner = [Boundary(at, "window", 1.0) for at in range(window_us, duration_us, window_us)]
        return _segments([start, *inner, end])
    bounds = settings.bounds_of(media_type)
    sound = _Sound(activity, duration_us)
    shots = [] if media_type == "audio" else _shots(transitions, duration_us)
    if media_type == "video" and settings.video_strategy == "content_aware":
        kept = _keep_strongest([shot.boundary for shot in shots], duration_us, bounds.min_us)
        return _segments(_split_long([start, *kept, end], _places([], sound), sound, bounds))
    return _segments(_cheapest(start, end, _places(shots, sound), sound, bounds))


def _segments(boundaries: Sequence[Boundary]) -> tuple[PlannedSegment, ...]:
    return tuple(PlannedSegment(one, two) for one, two in pairwise(boundaries))


# --------------------------------------------------------------------------------------------------- evidence


class _Sound:
    """Answers how a moment of an item sounds."""

    def __init__(self, activity: SoundActivity, duration_us: int) -> None:
        gaps = find_pauses(activity, duration_us, 1)
        self.pauses = tuple(gap for gap in gaps if gap.duration_us >= MIN_PAUSE_US)
        self.breaths = tuple(gap for gap in gaps if gap.duration_us < MIN_PAUSE_US)
        self.is_speech = activity.detector == "silero"
        self._heard = any(span.start_us < duration_us and span.end_us > 0 for span in activity.spans)
        self._ends = [pause.end_us for pause in self.pauses]

    def is_inside(self, time_us: int) -> bool:
        """Whether a moment lies within speech or sound, breaths included."""
        if not self._heard:
            return False
        at = bisect_left(self._ends, time_us - _EDGE_US)
        return at == len(self.pauses) or time_us < self.pauses[at].start_us - _EDGE_US

    def pauses_within(self, first_us: int, last_us: int) -> list[TimeSpan]:
        """The parts of pauses inside [first_us, last_us]."""
        parts = []
        for pause in self.pauses[bisect_left(self._ends, first_us) :]:
            if pause.start_us > last_us:
                break
            parts.append(TimeSpan(max(first_us, pause.start_us), min(last_us, pause.end_us)))
        return parts


def _shots(transitions: Iterable[TransitionLike], duration_us: int) -> list[_Shot]:
    """The changes of shot inside the item in order, the strongest for each moment; a dissolve is a fade from
    one shot to the next."""
    strongest: dict[int, _Shot] = {}
    for part in transitions:
        if 0 < part.at_us < duration_us:
            score = min(1.0, max(0.0, float(part.score)))
            found = _Shot(
                Boundary(part.at_us, "cut" if part.kind == "cut" else "fade", score),
                max(1, min(part.start_us, part.at_us)),
                min(duration_us - 1, max(part.end_us, part.at_us)),
            )
            known = strongest.get(part.at_us)
            if known is None or _strength(found) > _strength(known):
                strongest[part.at_us] = found
    return [strongest[at] for at in sorted(strongest)]


def _strength(shot: _Shot) -> tuple[float, str, int, int]:
    return (shot.boundary.score, shot.boundary.reason, -shot.first_us, shot.last_us)


def _keep_strongest(boundaries: Sequence[Boundary], duration_us: int, min_us: int) -> list[Boundary]:
    """The boundaries that leave no segment shorter than the minimum, strongest first, earlier first among
    equals."""
    kept = [0, duration_us]
    chosen: list[Boundary] = []
    for boundary in sorted(boundaries, key=lambda part: (-part.score, part.time_us)):
        at = bisect_left(kept, boundary.time_us)
        if boundary.time_us - kept[at - 1] >= min_us and kept[at] - boundary.time_us >= min_us:
            kept.insert(at, boundary.time_us)
            chosen.append(boundary)
    return sorted(chosen, key=lambda part: part.time_us)


# ----------------------------------------------------------------------------------------------------- places


def _places(shots: Sequence[_Shot], sound: _Sound) -> list[_CutCandidate]:
    """Every place that speaks for a boundary, in order, at most one in each slot; and some in long pauses and
    in breaths, should the maximum ask for them."""
    found = [_shot_place(shot, sound) for shot in shots]
    for pause in sound.pauses:
        middle = Boundary(_middle(pause), "pause", min(1.0, pause.duration_us / STRONG_PAUSE_US))
        found.append(_CutCandidate(middle, 0, _evidence_cost(middle.score) + _ALONE))
        found += [_limit_place(at, sound) for at in range(pause.start_us + _FILL_US, pause.end_us, _FILL_US)]
    for breath in sound.breaths:
        found.append(_limit_place(_middle(breath), sound, breath.duration_us))
    best: dict[int, _CutCandidate] = {}
    for place in found:
        slot = place.time_us // _SLOT_US
        if slot not in best or place.rank < best[slot].rank:
            best[slot] = place
    return [best[slot] for slot in sorted(best)]


def _shot_place(shot: _Shot, sound: _Sound) -> _CutCandidate:
    """A change of shot. A gradual one whose middle lies in speech is cut in the pause that it overlaps, if
    there is
    one: nearest to its middle."""
    boundary = shot.boundary
    if sound.is_inside(boundary.time_us):
        quiet = [_middle(part) for part in sound.pauses_within(shot.first_us, shot.last_us)]
        if quiet:
            at = min(quiet, key=lambda time_us: (abs(time_us - boundary.time_us), time_us))
            boundary = Boundary(at, boundary.reason, boundary.score)
    cost = _evidence_cost(boundary.score)
    if not sound.is_inside(boundary.time_us):
        return _CutCandidate(boundary, 0, cost if sound.pauses else cost + _ALONE)
    if sound.is_speech:
        return _CutCandidate(boundary, _THROUGH_SPEECH, cost + _ALONE)
    return _CutCandidate(boundary, 0, cost + _ALONE + _THROUGH_SOUND)


def _limit_place(time_us: int, sound: _Sound, breath_us: int = 0) -> _CutCandidate:
    """A boundary without evidence, best outside sound, else in the longest breath."""
    boundary = Boundary(time_us, "limit", 0.0)
    if not sound.is_inside(time_us):
        return _CutCandidate(boundary, _LIMIT)
    harm = _LIMIT + (_THROUGH_SPEECH if sound.is_speech else 0)
    return _CutCandidate(boundary, harm, _UNQUIET * (MIN_PAUSE_US - breath_us) // MIN_PAUSE_US)


def _evidence_cost(score: float) -> int:
    return round(_WEAK * (1 - score))


def _middle(span: TimeSpan) -> int:
    return (span.start_us + span.end_us) // 2


# --------------------------------------------------------------------------------------------------- choosing


def _split_long(
    boundaries: Sequence[Boundary], places: Sequence[_CutCandidate], sound: _Sound, bounds: LengthBounds
) -> list[Boundary]:
    """Splits what is longer than the maximum, at the places given where they lie well."""
    times = [place.time_us for place in places]
    result = [boundaries[0]]
    for one, two in pairwise(boundaries):
        if two.time_us - one.time_us > bounds.max_us:
            inside = places[bisect_right(times, one.time_us) : bisect_left(times, two.time_us)]
            result += _cheapest(one, two, inside, sound, bounds)[1:]
        else:
            result.append(two)
    return result


def _cheapest(
    start: Boundary, end: Boundary, places: Sequence[_CutCandidate], sound: _Sound, bounds: LengthBounds
) -> list[Boundary]:
    """The boundaries from start to end that do least harm, and of those the ones that cost least."""
    inner = [place for place in places if start.time_us < place.time_us < end.time_us]
    route = [_CutCandidate(start), *_fill_holes(start, end, inner, sound, bounds), _CutCandidate(end)]
    return [route[at].boundary for at in _cheapest_way(route, bounds)]


def _fill_holes(
    start: Boundary, end: Boundary, inner: Sequence[_CutCandidate], sound: _Sound, bounds: LengthBounds
) -> list[_CutCandidate]:
    """Adds places without evidence until neighbours lie at most `max_us - 2 * min_us` apart. Then there is
    always
    a way: from every place with more than `max_us` left, one lies within the bounds that leaves `min_us`."""
    widest_us = bounds.max_us - 2 * bounds.min_us
    step_us = min(_FILL_US, widest_us)
    times = [start.time_us, *(place.time_us for place in inner), end.time_us]
    filled: list[_CutCandidate] = []
    for at, (one, two) in enumerate(pairwise(times)):
        if two - one > widest_us:
            filled += [_limit_place(time_us, sound) for time_us in range(one + step_us, two, step_us)]
        if at < len(inner):
            filled.append(inner[at])
    return filled


def _cheapest_way(route: Sequence[_CutCandidate], bounds: LengthBounds) -> list[int]:
    """The places from the first to the last, by number, with segments within the bounds.

    Takes O(n * k) for n places of which k lie within one maximum. Of equal ways that with the earlier places
    wins, looked at from the end.
    """
    times = np.array([place.time_us for place in route], np.int64)
    harms = np.array([place.harm for place in route], np.int64)
    costs = np.array([place.cost for place in route], np.int64)
    shortest_us = min(bounds.min_us, route[-1].time_us - route[0].time_us)
    firsts = np.searchsorted(times, times - bounds.max_us, side="left").tolist()
    lasts = np.searchsorted(times, times - shortest_us, side="right").tolist()
    harm = np.full(len(route), _NO_WAY, np.int64)
    cost = np.zeros(len(route), np.int64)
    harm[0] = 0
    back = [0] * len(route)
    for to in range(1, len(route)):
        before = slice(firsts[to], lasts[to])
        least = harm[before].min(initial=_NO_WAY)
        if least == _NO_WAY:
            continue
        sums = cost[before] + _length_costs(times[to] - times[before], bounds.target_us)
        sums[harm[before] > least] = _NO_WAY
        best = int(sums.argmin())
        back[to] = before.start + best
        harm[to] = least + harms[to]
        cost[to] = sums[best] + costs[to]
    assert harm[-1] < _NO_WAY, "filled holes always leave a way from start to end"
    way = [len(route) - 1]
    while way[-1] != 0:
        way.append(back[way[-1]])
    return way[::-1]


def _length_costs(lengths_us: _Int64, target_us: int) -> _Int64:
    """0 at the target, one unit at twice and at half of it, growing with the square of the ratio, so that equal lengths
    cost less than unequal ones: int64[k] to int64[k]. Lengths are taken in milliseconds: their squares fit 64 bits."""
    lengths_ms, target_ms = np.maximum(lengths_us // 1000, 1), target_us // 1000
    longer = np.maximum(lengths_ms, target_ms)
    shorter = np.minimum(lengths_ms, target_ms)
    return np.asarray((_UNIT * longer**2 // shorter**2 - _UNIT) // 3, dtype=np.int64)
