"""The segment planner: a pure function from what was found in an item to its segments.

What always holds: segments cover [0, duration) without gap or overlap; none is longer than the maximum; none is shorter
than the minimum unless the item or the rest of a fixed plan is; an item without boundaries that fits the maximum is one
segment; neighbours share one `Boundary`; the order of the input does not matter.

`content_aware` video keeps every shot boundary that leaves no segment shorter than the minimum, strongest first.
`smart` video and `content_aware` audio choose among all candidates by least cost (dynamic programming over them, as
Knuth and Plass break lines): each segment costs by its distance from the target length, each boundary by how weak its
evidence is and by whether it cuts through speech.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from schemas.media import Boundary, MediaType, PlannedSegment, SoundActivity, TimeSpan
from schemas.segmentation import SegmentationSettings

# A gap of less than this between two stretches of speech is a breath inside a sentence, not a pause.
MIN_PAUSE_US: Final = 300_000
# A pause of this length or more is as strong as evidence gets: sentences are usually 0.5 to 1 s apart.
STRONG_PAUSE_US: Final = 1_000_000

# Costs, in units of "a segment twice as long or half as long as the target costs 1".
_WEAKEST_EVIDENCE: Final = 0.6  # cost of a boundary whose score is 0; one of score 1 is free
_THROUGH_SPEECH: Final = 1.5  # added for a cut inside speech
_THROUGH_SOUND: Final = 0.2  # added for a cut inside other sound: music goes on over picture cuts as a rule
_LIMIT: Final = 4.0  # a boundary with no evidence at all is the last resort
_FILL_EVERY_US: Final = 1_000_000  # such boundaries are tried this far apart
_PICTURE_IN_PAUSE: Final = 0.3  # taken off a picture boundary that falls into a pause


class TransitionLike(Protocol):
    """A change of shot, as `media.shots.Transition` gives it."""

    @property
    def kind(self) -> str: ...
    @property
    def at_us(self) -> int: ...
    @property
    def score(self) -> float: ...


class _Lengths(NamedTuple):
    """Lengths aimed at in microseconds; unlike the settings' these may be of any size."""

    min_us: int
    target_us: int
    max_us: int


@dataclass(frozen=True, slots=True)
class _Candidate:
    boundary: Boundary
    cost: float


def plan_segments(
    media_type: MediaType,
    duration_us: int,
    transitions: Sequence[TransitionLike],
    activity: SoundActivity,
    settings: SegmentationSettings,
) -> tuple[PlannedSegment, ...]:
    """The segments of one item, in order.

    Args:
        duration_us: length in microseconds; 0 gives one empty segment, as an image has.
        transitions: changes of shot; those outside the item are ignored.
        activity: where the item is heard.
    """
    start, end = Boundary(0, "start", 1.0), Boundary(duration_us, "end", 1.0)
    strategy = settings.strategy_of(media_type)
    if strategy == "image" or duration_us <= 0:
        return (PlannedSegment(start, Boundary(max(duration_us, 0), "end", 1.0)),)
    if (window_us := settings.window_us(media_type)) is not None:
        return _segments(
            [start, *(Boundary(at, "window", 1.0) for at in range(window_us, duration_us, window_us)), end]
        )
    lengths = settings.bounds_of(media_type)
    bounds = _Lengths(lengths.min_us, lengths.target_us, lengths.max_us)
    pauses = find_pauses(activity, duration_us)
    shots = _shot_boundaries(transitions, duration_us)
    if strategy == "content_aware" and media_type == "video":
        kept = _keep_strongest(shots, duration_us, bounds.min_us)
        return _segments(_split_long([start, *kept, end], pauses, activity, bounds))
    candidates = _candidates(shots, pauses, activity)
    return _segments(_cheapest(start, end, candidates, activity, bounds))


def find_pauses(activity: SoundActivity, duration_us: int, min_us: int = MIN_PAUSE_US) -> tuple[TimeSpan, ...]:
    """The gaps of at least `min_us` between spans of sound, in order; the quiet before the first and after the last
    counts too. Nothing heard at all gives none: there is nothing to pause."""
    spans = sorted((max(0, span.start_us), min(duration_us, span.end_us)) for span in activity.spans)
    spans = [span for span in spans if span[0] < span[1]]
    if not spans:
        return ()
    pauses = []
    heard_until = 0
    for start_us, end_us in [*spans, (duration_us, duration_us)]:
        if start_us - heard_until >= min_us:
            pauses.append(TimeSpan(heard_until, start_us))
        heard_until = max(heard_until, end_us)
    return tuple(pauses)


def _segments(boundaries: Sequence[Boundary]) -> tuple[PlannedSegment, ...]:
    return tuple(PlannedSegment(one, two) for one, two in zip(boundaries, boundaries[1:], strict=False))


def _shot_boundaries(transitions: Sequence[TransitionLike], duration_us: int) -> list[Boundary]:
    """One boundary for each moment inside the item; a dissolve is a fade from one shot to the next."""
    strongest: dict[int, Boundary] = {}
    for transition in transitions:
        if 0 < transition.at_us < duration_us:
            reason = "cut" if transition.kind == "cut" else "fade"
            found = Boundary(transition.at_us, reason, min(1.0, max(0.0, transition.score)))  # type: ignore[arg-type]
            known = strongest.get(found.time_us)
            if known is None or (found.score, found.reason) > (known.score, known.reason):
                strongest[found.time_us] = found
    return [strongest[at] for at in sorted(strongest)]


def _pause_boundary(pause: TimeSpan) -> Boundary:
    """The middle of a pause, scored by its length."""
    at = (pause.start_us + pause.end_us) // 2
    return Boundary(at, "pause", min(1.0, pause.duration_us / STRONG_PAUSE_US))


def _keep_strongest(boundaries: Sequence[Boundary], duration_us: int, min_us: int) -> list[Boundary]:
    """The boundaries that leave no segment shorter than the minimum, strongest first, earlier first among equals."""
    kept = [0, duration_us]
    chosen: list[Boundary] = []
    for boundary in sorted(boundaries, key=lambda part: (-part.score, part.time_us)):
        at = bisect_left(kept, boundary.time_us)
        if boundary.time_us - kept[at - 1] >= min_us and kept[at] - boundary.time_us >= min_us:
            kept.insert(at, boundary.time_us)
            chosen.append(boundary)
    return sorted(chosen, key=lambda part: part.time_us)


def _split_long(
    boundaries: Sequence[Boundary], pauses: Sequence[TimeSpan], activity: SoundActivity, bounds: _Lengths
) -> list[Boundary]:
    """Splits what is longer than the maximum, at pauses where there are any."""
    result = [boundaries[0]]
    for one, two in zip(boundaries, boundaries[1:], strict=False):
        if two.time_us - one.time_us > bounds.max_us:
            length = two.time_us - one.time_us
            parts = -(-length // bounds.max_us)
            aim = _Lengths(min(bounds.min_us, length // parts), length // parts, bounds.max_us)
            inside = [p for p in pauses if one.time_us < (p.start_us + p.end_us) // 2 < two.time_us]
            candidates = _candidates([], inside, activity)
            result += _cheapest(one, two, candidates, activity, aim)[1:]
        else:
            result.append(two)
    return result


def _candidates(shots: Sequence[Boundary], pauses: Sequence[TimeSpan], activity: SoundActivity) -> list[_Candidate]:
    """Every place that speaks for a boundary, with its cost, in order of time."""
    speech = _Speech(activity)
    found: dict[int, _Candidate] = {}
    for pause in pauses:
        boundary = _pause_boundary(pause)
        found[boundary.time_us] = _Candidate(boundary, _WEAKEST_EVIDENCE * (1 - boundary.score))
    starts = [pause.start_us for pause in pauses]
    for shot in shots:
        cost = _WEAKEST_EVIDENCE * (1 - shot.score)
        if speech.is_inside(shot.time_us):
            cost += speech.penalty
        elif (at := bisect_right(starts, shot.time_us) - 1) >= 0 and shot.time_us <= pauses[at].end_us:
            cost -= _PICTURE_IN_PAUSE
        known = found.get(shot.time_us)
        if known is None or cost <= known.cost:
            found[shot.time_us] = _Candidate(shot, cost)
    return [found[at] for at in sorted(found)]


class _Speech:
    """Answers whether a moment lies inside a stretch of speech (or other sound), breaths included.

    Attributes:
        penalty: what a boundary there costs.
    """

    def __init__(self, activity: SoundActivity) -> None:
        self.penalty = _THROUGH_SPEECH if activity.detector == "silero" else _THROUGH_SOUND
        merged: list[tuple[int, int]] = []
        for span in sorted(activity.spans, key=lambda part: part.start_us):
            if merged and span.start_us - merged[-1][1] < MIN_PAUSE_US:
                merged[-1] = (merged[-1][0], max(merged[-1][1], span.end_us))
            else:
                merged.append((span.start_us, span.end_us))
        self._starts = [start for start, _ in merged]
        self._ends = [end for _, end in merged]

    def is_inside(self, time_us: int) -> bool:
        at = bisect_right(self._starts, time_us) - 1
        return at >= 0 and self._starts[at] < time_us < self._ends[at]


def _cheapest(
    start: Boundary,
    end: Boundary,
    candidates: Sequence[_Candidate],
    activity: SoundActivity,
    bounds: _Lengths,
) -> list[Boundary]:
    """The boundaries from start to end whose segments and boundaries cost least together.

    Where no candidate lies within the maximum of another, places without evidence fill the hole, one for each second and
    one at the maximum itself; they cost so much that they are used only there.
    """
    inner = [part for part in candidates if start.time_us < part.boundary.time_us < end.time_us]
    for widest_us, shortest_us in ((bounds.max_us - bounds.min_us, bounds.min_us), (0, bounds.min_us), (0, 1)):
        places = [
            _Candidate(start, 0.0),
            *_fill_holes(start, end, inner, activity, widest_us, bounds),
            _Candidate(end, 0.0),
        ]
        if chosen := _cheapest_path(places, _Lengths(shortest_us, bounds.target_us, bounds.max_us)):
            return chosen
    raise AssertionError("places a second apart always leave a way from start to end")


def _cheapest_path(places: Sequence[_Candidate], bounds: _Lengths) -> list[Boundary]:
    """The cheapest way from the first place to the last by segments within the bounds; empty where there is none."""
    times = [part.boundary.time_us for part in places]
    best = [float("inf")] * len(places)
    best[0] = 0.0
    back = [0] * len(places)
    shortest = min(bounds.min_us, times[-1] - times[0])
    for to in range(1, len(places)):
        first = bisect_left(times, times[to] - bounds.max_us, 0, to)
        last = bisect_right(times, times[to] - shortest, 0, to)
        for source in range(first, last):
            cost = best[source] + _length_cost(times[to] - times[source], bounds) + places[to].cost
            if cost < best[to]:
                best[to], back[to] = cost, source
    if best[-1] == float("inf"):
        return []
    chosen = [len(places) - 1]
    while chosen[-1] != 0:
        chosen.append(back[chosen[-1]])
    return [places[at].boundary for at in reversed(chosen)]


def _fill_holes(
    start: Boundary,
    end: Boundary,
    inner: Sequence[_Candidate],
    activity: SoundActivity,
    widest_us: int,
    bounds: _Lengths,
) -> list[_Candidate]:
    """Adds places without evidence between neighbours that lie further apart than `widest_us`."""
    speech = _Speech(activity)
    filled: list[_Candidate] = []
    times = [start.time_us, *(part.boundary.time_us for part in inner), end.time_us]
    step = max(1, min(_FILL_EVERY_US, bounds.max_us // 4))
    for at, (one, two) in enumerate(zip(times, times[1:], strict=False)):
        if two - one > widest_us:
            for time_us in range(one + step, two, step):
                cost = _LIMIT + (speech.penalty if speech.is_inside(time_us) else 0.0)
                filled.append(_Candidate(Boundary(time_us, "limit", 0.0), cost))
        if at < len(inner):
            filled.append(inner[at])
    return filled


def _length_cost(length_us: int, bounds: _Lengths) -> float:
    """0 at the target, 1 at twice and at half of it, growing with the ratio."""
    ratio = length_us / bounds.target_us
    return max(ratio, 1 / ratio) - 1
