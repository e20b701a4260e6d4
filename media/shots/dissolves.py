"""Dissolves: windows whose frames are linear blends of their ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from promptreel.media.shots.arrays import F32, I64, chunks
from promptreel.media.shots.distances import only_light_changed, share_changed
from promptreel.media.shots.features import COLS, ROWS, FrameFeatures
from promptreel.media.shots.settings import ShotSettings
from promptreel.media.shots.times import after, first_at
from promptreel.media.shots.transitions import Transition, select_strongest
from promptreel.media.shots.windows import Windows, measure_windows, nearest_return, vector

# Histogram distance from which colours count as much as layout; a still, grainy shot stays below about 0.05.
_FULL_HELLINGER = 0.2


def find_dissolves(features: FrameFeatures, blocked: list[Transition], settings: ShotSettings) -> list[Transition]:
    """Return dissolves that do not overlap, strongest first; some may touch a `blocked` transition."""
    candidates = []
    for length in settings.dissolve_windows_us:
        for first, last in chunks(0, len(features)):
            windows = measure_windows(features, first, last, length, blocked, settings)
            if windows is not None:
                candidates += _judge_windows(features, windows, settings)
    found = select_strongest(candidates, [(c.start_us, c.end_us) for c in candidates])
    return [_fit_ends(features, dissolve) for dissolve in found]


def _judge_windows(features: FrameFeatures, windows: Windows, settings: ShotSettings) -> list[Transition]:
    """Return the windows that contain a dissolve, scored."""
    shares = windows.shares
    rising = (shares[:, 0] > 0.04) & (np.diff(shares, axis=1).min(axis=1) > 0.1) & (shares[:, 2] < 0.96)
    # Colours that hardly change carry no information.
    colour_weight = 0.5 * np.minimum(1, windows.colour_distance / _FULL_HELLINGER)
    outside = settings.side_weight * ((1 - colour_weight) * windows.side + colour_weight * windows.colour_side)
    score = (1 - windows.residual) * np.clip(1 - outside, 0, 1)
    score *= np.minimum(1, windows.distance / windows.full_distance)
    # The tests below are expensive and only reject, so each runs on what the previous ones left.
    passed = np.flatnonzero(rising & (windows.residual <= settings.blend_residual) & (score >= settings.dissolve_score))
    score[passed] *= np.minimum(
        1, share_changed(features, windows.old[passed], windows.new[passed]) / settings.full_spread
    )
    passed = passed[score[passed] >= settings.dissolve_score]
    passed = passed[~only_light_changed(features, windows.old[passed], windows.new[passed], settings)]
    left = _share_left_by_shift(features, windows.old[passed], windows.new[passed])
    passed = passed[left >= settings.shift_share]
    doubted = windows.residual[passed] > settings.exact_residual
    returns = nearest_return(features, windows, passed[doubted], settings.return_us) < settings.return_share
    doubted[doubted] = returns
    passed = passed[~doubted]
    return [
        Transition("dissolve", start, end, (start + end) // 2, float(score[at]))
        for at, start, end in zip(
            passed.tolist(),
            windows.start_us[passed].tolist(),
            windows.end_us[passed].tolist(),
            strict=True,
        )
    ]


def _share_left_by_shift(features: FrameFeatures, left: I64, right: I64) -> F32:
    """Return the root-mean-square luma difference of frames at their best shift, as a share of the unshifted
    one: float32[m]. Shifts are in cells, up to a third of the picture each way."""
    one = features.grid[left].reshape(-1, ROWS, COLS).astype(np.float32)
    two = features.grid[right].reshape(-1, ROWS, COLS).astype(np.float32)
    if not len(left):
        return np.zeros(0, np.float32)
    unshifted = np.sqrt(((one - two) ** 2).mean(axis=(1, 2)))
    best = unshifted.copy()
    for down in range(-ROWS // 3, ROWS // 3 + 1):
        for across in range(-COLS // 3, COLS // 3 + 1):
            part = one[:, max(down, 0) : ROWS + min(down, 0), max(across, 0) : COLS + min(across, 0)]
            other = two[:, max(-down, 0) : ROWS + min(-down, 0), max(-across, 0) : COLS + min(-across, 0)]
            apart = part - other
            best = np.minimum(best, np.sqrt(np.einsum("ijk,ijk->i", apart, apart) / apart[0].size))
    return np.asarray(best / (unshifted + 1), dtype=np.float32)  # + 1: a difference of one level is noise


def _fit_ends(features: FrameFeatures, window: Transition) -> Transition:
    """Narrow a window to the dissolve inside it.

    The rise from a quarter to three quarters of the new picture is extrapolated to both sides, because the
    ends of a window may contain camera movement.
    """
    times = features.times_us
    inside = np.arange(first_at(times, window.start_us), after(times, window.end_us))
    rows = vector(features, inside)
    span = rows[-1] - rows[0]
    shares = (rows - rows[0]) @ span / max(float(span @ span), 1e-9)
    middle = int(np.argmax(shares >= 0.5))
    quarter = int(np.flatnonzero(shares[: middle + 1] <= 0.25)[-1])
    three = middle + int(np.argmax(shares[middle:] >= 0.75))
    rise = int(times[inside[three]] - times[inside[quarter]])
    start = max(int(times[inside[quarter]]) - rise // 2, window.start_us)
    end = min(int(times[inside[three]]) + rise // 2, window.end_us)
    return replace(window, start_us=start, end_us=end, at_us=(start + end) // 2)
