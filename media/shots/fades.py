"""Fades and black or white stretches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from promptreel.media.shots.arrays import F32, I64, Bool
from promptreel.media.shots.distances import distance
from promptreel.media.shots.features import FrameFeatures
from promptreel.media.shots.settings import ShotSettings
from promptreel.media.shots.times import MIN_RAMP_US
from promptreel.media.shots.transitions import Transition

_FLAT = 0.002  # contrast, half a level: smaller steps do not continue a ramp
_NEUTRAL = 3  # levels between the mean colours of black or white; dark shots are mostly tinted


@dataclass(frozen=True, slots=True)
class Blank:
    """A blank stretch and the fade that contains it."""

    fade: Transition
    first_us: int
    """First blank frame."""
    last_us: int
    """First frame after it."""
    at_an_end: bool
    """The film starts or ends with it."""
    end_boundary: Transition | None
    """The change between content and a blank stretch at an end that lasts long enough to be a shot, else None."""


def find_blanks(features: FrameFeatures, cuts: list[Transition], settings: ShotSettings) -> list[Blank]:
    """Find blank stretches and their ramps. Skip blank flashes, which the cut test handles, and dark shots."""
    level, contrast, times = features.brightness, features.contrast, features.times_us
    dim = (contrast < settings.blank_contrast) & ((level < settings.blank_level) | (level > 1 - settings.blank_level))
    flat = dim & (contrast < settings.flat_contrast) & (np.ptp(features.mean_rgb, axis=1) <= _NEUTRAL)
    edges = np.diff(np.concatenate([[False], dim, [False]]).astype(np.int8))
    starts, ends = edges[:-1] > 0, edges[1:] < 0
    # A dark shot next to black may be as dim as the black: only a cut separates them.
    at = np.searchsorted(times, [c.at_us for c in cuts])
    split = at[dim[at] & dim[at - 1]]
    starts[split], ends[split - 1] = True, True
    bounds = set(at.tolist())
    found = []
    for first, last in zip(np.flatnonzero(starts).tolist(), (np.flatnonzero(ends) + 1).tolist(), strict=True):
        for inner_first, inner_last in _flat_parts(times, flat, first, last, settings) or [(first, last)]:
            found += _read_blank(features, inner_first, inner_last, bool(flat[inner_first]), bounds, settings)
    return found


def _flat_parts(times: I64, flat: Bool, first: int, last: int, settings: ShotSettings) -> list[tuple[int, int]]:
    """Return the flat parts of the dim stretch [first, last); the rest is ramps and dark shots."""
    frames = first + np.flatnonzero(flat[first:last])
    if not len(frames):
        return []
    gaps = np.flatnonzero(np.diff(times[frames]) > settings.persist_us)
    return list(
        zip(frames[np.r_[0, gaps + 1]].tolist(), (frames[np.r_[gaps, len(frames) - 1]] + 1).tolist(), strict=True)
    )


def _read_blank(
    features: FrameFeatures, first: int, last: int, flat: bool, cuts: set[int], settings: ShotSettings
) -> list[Blank]:
    """Return the blank stretch [first, last) with its ramps; empty for a flash and for a dark shot."""
    level, contrast, times = features.brightness, features.contrast, features.times_us
    count, reach = len(times), settings.fade_reach_us
    start = end = None
    if first > 0:
        start = first - 1 if first in cuts else _ramp_end(contrast, times, first - 1, -1, reach)
    if last < count:
        end = last if last in cuts else _ramp_end(contrast, times, last, 1, reach)
    ramped_out = start is not None and _is_ramp(times, start, first - 1)
    ramped_in = end is not None and _is_ramp(times, last, end)
    ramped = ramped_out or ramped_in
    if not ramped and not flat:
        return []
    if start is not None and end is not None and times[last] - times[first - 1] < 2 * settings.persist_us:
        alike = float(distance(features, np.array([start]), np.array([end]))[0]) < settings.cut_distance
        if not ramped or (alike and level[first] > 0.5):
            return []  # a flash, which may fade out slowly
    at_an_end = start is None or end is None
    ties = first + np.flatnonzero(contrast[first:last] <= contrast[first:last].min() + _FLAT)
    at = int(times[ties[0]] + times[ties[-1]]) // 2
    fade = Transition("fade", int(times[start or 0]), int(times[count - 1 if end is None else end]), at, 1.0)
    first_us, last_us = int(times[first]), int(times[min(last, count - 1)])
    boundary = _end_boundary(times, first, last, start, end, ramped, settings) if at_an_end else None
    return [Blank(fade, first_us, last_us, at_an_end, boundary)]


def _end_boundary(
    times: I64, first: int, last: int, start: int | None, end: int | None, ramped: bool, settings: ShotSettings
) -> Transition | None:
    """Return the change between content and a blank stretch [first, last) at one end of the film."""
    if times[min(last, len(times) - 1)] - times[first] < settings.leader_us:
        return None
    if end is not None:
        at, old, new = int(times[last]), int(times[last - 1]), int(times[end])
    elif start is not None:
        at, old, new = int(times[first]), int(times[start]), int(times[first])
    else:
        return None
    return Transition("fade", old, new, at, 1.0) if ramped else Transition("cut", at, at, at, 1.0)


def _is_ramp(times: I64, first: int, last: int) -> bool:
    return last - first >= 2 and int(times[last] - times[first]) > MIN_RAMP_US


def in_fade(cut: Transition, blank: Blank) -> bool:
    """Return whether a cut is only the steep part of a fade: in the blank stretch or in the nearer half of a
    ramp."""
    return (blank.fade.start_us + blank.first_us) // 2 <= cut.at_us <= (blank.last_us + blank.fade.end_us) // 2


def clip_to_cuts(fade: Transition, cuts: list[Transition]) -> Transition:
    """Shorten a fade's ramps to the cuts that they reach."""
    start = max([fade.start_us, *(c.at_us for c in cuts if c.at_us < fade.at_us)])
    end = min([fade.end_us, *(c.at_us for c in cuts if c.at_us > fade.at_us)])
    return replace(fade, start_us=start, end_us=end)


def _ramp_end(contrast: F32, times: I64, at: int, step: int, reach_us: int) -> int:
    """Follow rising contrast away from a blank stretch, from frame `at` on; return the frame where it stops
    rising."""
    origin = int(times[at])
    ahead, best = at + step, at
    while 0 <= ahead < len(times) and abs(int(times[ahead]) - origin) <= reach_us:
        if contrast[ahead] >= contrast[best] + _FLAT:
            best = ahead
        elif abs(int(times[ahead] - times[best])) > MIN_RAMP_US:
            break
        ahead += step
    return best
