"""Distances between frames."""

from __future__ import annotations

import numpy as np

from promptreel.media.shots.arrays import F32, I64, U8, Bool, chunks
from promptreel.media.shots.features import BINS, COLS, ROWS, FrameFeatures
from promptreel.media.shots.settings import ShotSettings

_BAR = 4  # luma at or below which a cell counts as part of a black bar, also beside a dark picture
_LOG_LUMA = np.log(np.arange(256, dtype=np.float32) + 8)  # 8: below it a step is coding noise
_BLACK = 20  # luma at or below which a cell counts as black in a bright picture: 16 is black in limited range


def distance(features: FrameFeatures, left: I64, right: I64) -> F32:
    """Return the distance 0..1 of the frames `left` and `right` (int64[m] each): float32[m].

    Half comes from the layout of light and colour, half from the amount of each colour (Hellinger distance
    of the histograms). Motion changes the first, light the second, a new shot both. Each luma cell is compared
    with the nearest value among a cell and its eight neighbours, so that a shake or a pan of up to a sixteenth
    of the width adds little.
    """
    one = features.grid[left].reshape(-1, ROWS, COLS)
    two = features.grid[right].reshape(-1, ROWS, COLS)
    layout = np.maximum(_outside_neighbours(one, two), _outside_neighbours(two, one))
    chroma = _absolute(features.chroma[left], features.chroma[right]).mean(axis=1, dtype=np.float32)
    amount = hellinger(features, left, right) ** 2
    layout = np.clip((layout + 2 * chroma) / 255 / 0.2, 0, 1)
    return np.asarray(0.5 * layout + 0.5 * amount, dtype=np.float32)


def hellinger(features: FrameFeatures, left: I64, right: I64) -> F32:
    """Return the Hellinger distance of the frames' histograms, 0..1: float32[m]. Motion hardly changes it."""
    overlap = np.einsum(
        "ij,ij->i", features.histogram[left].astype(np.float32), features.histogram[right].astype(np.float32)
    )
    return np.asarray(np.sqrt(np.clip(1 - overlap / (len(BINS) * 255**2), 0, 1)), dtype=np.float32)


def _outside_neighbours(one: U8, two: U8) -> F32:
    """Return the mean distance of each cell of `one` from the range around that cell in `two`: float32[m]."""
    padded = np.pad(two, ((0, 0), (1, 1), (1, 1)), mode="edge")
    low = np.minimum(np.minimum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    low = np.minimum(np.minimum(low[:, :, :-2], low[:, :, 1:-1]), low[:, :, 2:])
    high = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    high = np.maximum(np.maximum(high[:, :, :-2], high[:, :, 1:-1]), high[:, :, 2:])
    outside = np.maximum(one, high) - np.minimum(one, low) - (high - low)
    return np.asarray(outside.reshape(len(one), -1).mean(axis=1, dtype=np.float32))


def _absolute(one: U8, two: U8) -> U8:
    return np.maximum(one, two) - np.minimum(one, two)


def step_distances(features: FrameFeatures) -> F32:
    """Return the distance of every frame from the one before it: float32[n], 0 for the first."""
    steps = np.zeros(len(features), np.float32)
    for first, last in chunks(1, len(features)):
        right = np.arange(first, last)
        steps[right] = distance(features, right - 1, right)
    return steps


def light_share(level: F32, settings: ShotSettings) -> F32:
    """Return the factor for distance thresholds at mean luma `level`: distances scale with the light."""
    share = np.clip(level / settings.dark_level, settings.dark_distance / settings.cut_distance, 1)
    return np.asarray(share, dtype=np.float32)


def only_light_changed(features: FrameFeatures, left: I64, right: I64, settings: ShotSettings) -> Bool:
    """Return whether the frames `left` and `right` show one scene in other light: bool[m].

    Exposure scales luma about its mean and colour about grey, so the cosines of both patterns stay near 1. A
    lamp over part of the picture changes both, but not the structure.
    """
    light = [features.grid[at].astype(np.float32) for at in (left, right)]
    light = [rows - rows.mean(axis=1, keepdims=True) for rows in light]
    colour = [features.chroma[at].astype(np.float32) - 128 for at in (left, right)]
    same_light, light_power = _cosine(light[0], light[1])
    same_colour, colour_power = _cosine(colour[0], colour[1])
    # Patterns weaker than 3 of 255 levels are noise.
    return np.asarray(
        (
            (same_light > settings.lighting_pattern)
            & (light_power > 3.0**2)
            & ((same_colour > settings.lighting_pattern) | (colour_power < 3.0**2))
        )
        | (_same_structure(features.grid[left], features.grid[right]) > settings.lighting_structure)
    )


def _same_structure(one: U8, two: U8) -> F32:
    """Cosine of the steps of log luma between neighbouring cells: float32[m], 0 for pictures without structure.

    A lamp of any position and colour scales neighbouring cells alike, which preserves these steps. Black bars
    are the same structure in every shot, so cells in or next to them do not count.
    """
    hidden = np.pad(np.maximum(one, two).reshape(-1, ROWS, COLS) <= _BAR, ((0, 0), (1, 1), (1, 1)))
    hidden = hidden[:, :-2] | hidden[:, 1:-1] | hidden[:, 2:]
    hidden = hidden[:, :, :-2] | hidden[:, :, 1:-1] | hidden[:, :, 2:]
    down, across = ~(hidden[:, 1:] | hidden[:, :-1]), ~(hidden[:, :, 1:] | hidden[:, :, :-1])
    total, power = np.zeros(len(one), np.float32), [np.zeros(len(one), np.float32)] * 2
    logs = [_LOG_LUMA[rows].reshape(-1, ROWS, COLS) for rows in (one, two)]
    for axis, shown in ((1, down), (2, across)):
        steps = [np.diff(rows, axis=axis) * shown for rows in logs]
        total = total + np.einsum("ijk,ijk->i", steps[0], steps[1])
        power = [sums + np.einsum("ijk,ijk->i", side, side) for sums, side in zip(power, steps, strict=True)]
    # Steps of 1 % are noise.
    return np.asarray(total / np.sqrt(np.maximum(power[0] * power[1], (0.01**2 * ROWS * COLS) ** 2)), np.float32)


def _cosine(one: F32, two: F32) -> tuple[F32, F32]:
    """Return the cosine of rows, float32[m], and their mean power."""
    power = np.sqrt(np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", two, two))
    return np.asarray(np.einsum("ij,ij->i", one, two) / np.maximum(power, 1e-6)), np.asarray(power / one.shape[1])


def share_changed(features: FrameFeatures, left: I64, right: I64) -> F32:
    """Return how evenly a change is spread over the picture: float32[m].

    Median over root mean square of the cells' luma change: 0 if less than half of the picture changes, 0.67 for
    a normal distribution. Cells that are black in both frames, such as bars, do not count.
    """
    one, two = features.grid[left], features.grid[right]
    brighter = np.maximum(one, two)
    # Half the mean, because the unlit part of a dark picture may be as dark as the bars of a bright one.
    shown = brighter > np.clip(brighter.mean(axis=1, dtype=np.float32) / 2, _BAR, _BLACK)[:, None]
    change = _absolute(one, two)
    count = np.maximum(shown.sum(axis=1), 1)
    ranked = np.sort(np.where(shown, change, np.uint8(255)), axis=1)  # black cells go last
    median = ranked[np.arange(len(ranked)), (count - 1) // 2].astype(np.float32)
    power = np.where(shown, change, np.uint8(0)).astype(np.float32)
    mean_square = np.einsum("ij,ij->i", power, power) / count
    return np.asarray(median / np.sqrt(mean_square + 1), dtype=np.float32)
