"""Fades: the picture goes blank and comes back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from promptreel.media.shots.arrays import F32, I64
from promptreel.media.shots.distances import distance
from promptreel.media.shots.features import FrameFeatures
from promptreel.media.shots.settings import ShotSettings
from promptreel.media.shots.times import SHORTEST_RAMP_US
from promptreel.media.shots.transitions import Transition

_FLAT = 0.002  # contrast, half a level: steps below it are no longer part of a ramp


@dataclass(frozen=True, slots=True)
class Blank:
    """A blank stretch and the fade that it belongs to."""

    fade: Transition
    first_us: int
    """First blank frame."""
    last_us: int
    """First frame after it."""
    at_an_end: bool
    """The film begins or ends blank, so that this bounds no shot."""


def find_blanks(features: FrameFeatures, settings: ShotSettings) -> list[Blank]:
    """Blank stretches, with the ramps that lead in and out; blank flashes are left to the cut test."""
    level, contrast, times = features.brightness, features.contrast, features.times_us
    blank = (contrast < settings.blank_contrast) & ((level < settings.blank_level) | (level > 1 - settings.blank_level))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], blank, [False]]).astype(np.int8)))
    found = []
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        start = _ramp_end(contrast, times, first - 1, -1, settings.fade_reach_us) if first > 0 else 0
        end = _ramp_end(contrast, times, last, 1, settings.fade_reach_us) if last < len(times) else len(times) - 1
        inside = first > 0 and last < len(times)
        if inside and times[last] - times[first - 1] < 2 * settings.persist_us:
            ramped = _is_ramp(times, start, first - 1) or _is_ramp(times, last, end)
            alike = float(distance(features, np.array([start]), np.array([end]))[0]) < settings.cut_distance
            if not ramped or (alike and level[first] > 0.5):
                continue  # a flash, which may afterglow
        ties = first + np.flatnonzero(contrast[first:last] <= contrast[first:last].min() + _FLAT)
        at = int(times[ties[0]] + times[ties[-1]]) // 2
        fade = Transition("fade", int(times[start]), int(times[end]), at, 1.0)
        found.append(Blank(fade, int(times[first]), int(times[min(last, end)]), not inside))
    return found


def _is_ramp(times: I64, first: int, last: int) -> bool:
    return last - first >= 2 and int(times[last] - times[first]) > SHORTEST_RAMP_US


def in_fade(cut: Transition, blank: Blank) -> bool:
    """Whether a cut is only a fade's steep part: in the blank stretch or in the half of a ramp that is
    nearer to it."""
    return (blank.fade.start_us + blank.first_us) // 2 <= cut.at_us <= (blank.last_us + blank.fade.end_us) // 2


def clip_to_cuts(fade: Transition, cuts: list[Transition]) -> Transition:
    """Ends a fade's ramps at the cuts they run into."""
    start = max([fade.start_us, *(c.at_us for c in cuts if c.at_us < fade.at_us)])
    end = min([fade.end_us, *(c.at_us for c in cuts if c.at_us > fade.at_us)])
    return replace(fade, start_us=start, end_us=end)


def _ramp_end(contrast: F32, times: I64, at: int, step: int, reach_us: int) -> int:
    """Follows rising contrast away from a blank stretch, from frame `at` on; the frame where it stops rising
    for good."""
    origin = int(times[at])
    ahead, best = at + step, at
    while 0 <= ahead < len(times) and abs(int(times[ahead]) - origin) <= reach_us:
        if contrast[ahead] >= contrast[best] + _FLAT:
            best = ahead
        elif abs(int(times[ahead] - times[best])) > SHORTEST_RAMP_US:
            break
        ahead += step
    return best
