"""How far apart two frames are."""

from __future__ import annotations

import numpy as np

from promptreel.media.shots.arrays import F32, I64, U8, Bool, chunks
from promptreel.media.shots.features import BINS, COLS, ROWS, FrameFeatures
from promptreel.media.shots.settings import ShotSettings

_BAR = 4  # luma at or below which a cell counts as part of a black bar, also beside a dark picture
_LOG_LUMA = np.log(np.arange(256, dtype=np.float32) + 8)  # 8: below it a step is coding noise
_BLACK = 20  # luma at or below which a cell counts as black: 16 is black in limited range


def distance(features: FrameFeatures, left: I64, right: I64) -> F32:
    """Distance 0..1 of the frames `left` and `right` (int64[m] each): float32[m].

    Half comes from where light and colour sit and half from how much there is of each colour (Hellinger
    distance of the histograms). Motion disturbs the first, a change of light the second, a new shot both.
    Each luma cell is compared with the nearest value among a cell and its eight neighbours, so that a shake
    or a pan of up to a sixteenth of the width costs little.
    """
    one = features.grid[left].reshape(-1, ROWS, COLS)
    two = features.grid[right].reshape(-1, ROWS, COLS)
    place = np.maximum(_outside_neighbours(one, two), _outside_neighbours(two, one))
    chroma = _absolute(features.chroma[left], features.chroma[right]).mean(axis=1, dtype=np.float32)
    amount = hellinger(features, left, right) ** 2
    where = np.clip((place + 2 * chroma) / 255 / 0.2, 0, 1)
    return np.asarray(0.5 * where + 0.5 * amount, dtype=np.float32)


def hellinger(features: FrameFeatures, left: I64, right: I64) -> F32:
    """Hellinger distance of the frames' histograms, 0..1: float32[m]. Moving things hardly change it."""
    overlap = np.einsum(
        "ij,ij->i", features.histogram[left].astype(np.float32), features.histogram[right].astype(np.float32)
    )
    return np.asarray(np.sqrt(np.clip(1 - overlap / (len(BINS) * 255**2), 0, 1)), dtype=np.float32)


def _outside_neighbours(one: U8, two: U8) -> F32:
    """Mean distance of each cell of `one` from the range of values around that cell in `two`: float32[m]."""
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
    """Distance of every frame from the one before it: float32[n], 0 for the first."""
    steps = np.zeros(len(features), np.float32)
    for first, last in chunks(1, len(features)):
        right = np.arange(first, last)
        steps[right] = distance(features, right - 1, right)
    return steps


def light_share(level: F32, settings: ShotSettings) -> F32:
    """Return how far to lower thresholds of distance for pictures of mean luma `level`: distances scale with light."""
    return np.clip(level / settings.dark_level, settings.dark_distance / settings.cut_distance, 1)


def only_light_changed(features: FrameFeatures, left: I64, right: I64, settings: ShotSettings) -> Bool:
    """Whether the frames `left` and `right` differ by exposure only: bool[m]. A gain scales luma about its
    mean and colour about grey, so both keep their pattern: the cosines of the two patterns stay near 1."""
    light = [features.grid[at].astype(np.float32) for at in (left, right)]
    light = [rows - rows.mean(axis=1, keepdims=True) for rows in light]
    colour = [features.chroma[at].astype(np.float32) - 128 for at in (left, right)]
    same_light, light_power = _cosine(light[0], light[1])
    same_colour, colour_power = _cosine(colour[0], colour[1])
    # patterns weaker than 3 of 255 levels are noise: no layout to compare, no colour to differ in
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

    A lamp multiplies the luma of neighbouring cells alike, wherever and in whatever colour it shines, so the steps stay.
    Black bars would be the same structure in every shot: cells in or next to them do not count.
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
    # a mean square step of 1 % is noise
    return np.asarray(total / np.sqrt(np.maximum(power[0] * power[1], (0.01**2 * ROWS * COLS) ** 2)), np.float32)


def _cosine(one: F32, two: F32) -> tuple[F32, F32]:
    """Cosine of rows, float32[m], and their mean power."""
    power = np.sqrt(np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", two, two))
    return np.asarray(np.einsum("ij,ij->i", one, two) / np.maximum(power, 1e-6)), np.asarray(power / one.shape[1])


def share_changed(features: FrameFeatures, left: I64, right: I64) -> F32:
    """How evenly a change is spread over the picture: median over root mean square of the cells' luma change,
    0 where less than half of the picture changes and 0.67 for a normal distribution. Bars that are black in
    both frames do not count. float32[m]."""
    one, two = features.grid[left], features.grid[right]
    brighter = np.maximum(one, two)
    # Half the mean: the unlit part of a dark picture is darker than the bars of a bright one, yet part of the picture.
    shown = brighter > np.clip(brighter.mean(axis=1, dtype=np.float32) / 2, _BAR, _BLACK)[:, None]
    change = _absolute(one, two)
    count = np.maximum(shown.sum(axis=1), 1)
    ranked = np.sort(np.where(shown, change, np.uint8(255)), axis=1)  # the bars go last
    median = ranked[np.arange(len(ranked)), (count - 1) // 2].astype(np.float32)
    power = np.where(shown, change, np.uint8(0)).astype(np.float32)
    mean_square = np.einsum("ij,ij->i", power, power) / count
    return np.asarray(median / np.sqrt(mean_square + 1), dtype=np.float32)
