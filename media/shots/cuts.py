"""Hard cuts: steps that stand out from the steps around them and persist."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from promptreel.media.shots.arrays import F32, I64, Bool
from promptreel.media.shots.distances import distance, light_share, only_light_changed, share_changed
from promptreel.media.shots.features import FrameFeatures
from promptreel.media.shots.settings import ShotSettings
from promptreel.media.shots.times import after, first_at
from promptreel.media.shots.transitions import Transition

_Lasting = Callable[[int], tuple[float, int, int]]


def find_cuts(features: FrameFeatures, steps: F32, settings: ShotSettings) -> list[Transition]:
    """Return the hard cuts in order; `steps` has the distance of every frame from the one before it."""
    times = features.times_us
    found = []
    # Steps are visited in order and compared with those within a second: 512 frames are enough.
    lasting = lru_cache(maxsize=512)(lambda step: _lasting_change(features, step, settings))
    level = features.brightness.copy()
    level[1:] = np.maximum(level[1:], level[:-1])
    least = settings.cut_distance * light_share(level, settings)
    for at in np.flatnonzero(steps >= least).tolist():
        score = _cut_score(features, steps, at, float(least[at]), lasting, settings)
        if score is not None:
            when = int(times[at])
            found.append(Transition("cut", when, when, when, score))
    return found


def _cut_score(
    features: FrameFeatures, steps: F32, at: int, least: float, lasting: _Lasting, settings: ShotSettings
) -> float | None:
    """Return the distance of the frame sets on both sides of the step into frame `at`, or None if it is no cut.

    `least` is the minimum strength in the light of these frames.
    """
    times = features.times_us
    apart, left, right = lasting(at)
    pair = np.array([left]), np.array([right])
    strength = apart * min(1.0, float(share_changed(features, *pair)[0]) / settings.full_spread)
    if strength < least:
        return None
    first, last = (
        first_at(times, times[at] - settings.around_us),
        after(times, times[at] + settings.around_us),
    )
    around = np.array([k for k in range(max(first, 1), last) if k != at], dtype=np.int64)
    near = np.abs(times[around] - times[at]) <= settings.near_us
    usual = steps[around]
    if strength < settings.cut_distance:
        if not _stands_out(strength, usual, near, settings.dark_ratio, settings):
            return None
    elif not _stands_out(strength, usual, near, settings.cut_ratio, settings):
        # Nearby flashes may inflate the usual step: count only the part of each large step that persists.
        for k in np.flatnonzero(usual > strength / settings.cut_ratio).tolist():
            usual[k] = min(float(usual[k]), lasting(int(around[k]))[0])
        if not _stands_out(strength, usual, near, settings.cut_ratio, settings):
            return None
    # During a pan only the frames next to the step show the same part of the scene.
    olds, news = np.array([left, at - 1]), np.array([right, at])
    if only_light_changed(features, olds, news, settings).any():
        return None
    return min(strength, 1.0)


def _stands_out(strength: float, usual: F32, near: Bool, ratio: float, settings: ShotSettings) -> bool:
    """Return whether a step is `ratio` times the usual step around it and, for bursts such as a whip pan, the
    median step near it."""
    level = float(np.quantile(usual, settings.around_quantile)) if len(usual) else 0.0
    burst = float(np.median(usual[near])) if near.any() else 0.0
    return strength >= ratio * max(level, burst)


def _lasting_change(features: FrameFeatures, at: int, settings: ShotSettings) -> tuple[float, int, int]:
    """Return the least distance between a frame in `persist_us` before frame `at` and one in `persist_us` from
    it on, and those two frames."""
    times = features.times_us
    old = _spread(first_at(times, times[at - 1] - settings.persist_us), at)
    new = _spread(at, after(times, times[at] + settings.persist_us))
    left, right = np.repeat(old, len(new)), np.tile(new, len(old))
    apart = distance(features, left, right)
    nearest = int(apart.argmin())
    return float(apart[nearest]), int(left[nearest]), int(right[nearest])


def _spread(first: int, last: int) -> I64:
    """Return up to eight frame numbers spread over [first, last), including both ends: int64[m]."""
    return np.unique(np.linspace(first, last - 1, num=min(8, last - first)).round().astype(np.int64))
