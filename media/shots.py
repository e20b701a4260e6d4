"""Shot boundaries from low-resolution frames: hard cuts, dissolves and fades, with numpy alone.

A decode pass streams small RGB frames into a :class:`FeatureBuilder`; :func:`detect_transitions` then reads
the compact features. Three questions are asked, each in time and never in frame counts, because frames may
be irregular (variable frame rate) or a subset (a decoder that skips non-reference frames):

* **fade**: does the picture go blank (black or white) and come back?
* **cut**: does one frame step stand out from the steps around it, *and* do the frames of the quarter second
  before it all differ from those of the quarter second after it? A camera flash fails the second half.
* **dissolve**: over some window, is every frame in between a linear blend of the two ends, while the picture
  outside the window moves much less than inside it? The first half is what camera motion fails on textured
  pictures, the second what slow pans over smooth pictures fail.

The blend test rests on the definition of a dissolve, ``frame = (1 - a) * old + a * new`` with `a` rising
from 0 to 1; the persistence test on frame *sets* instead of frame pairs is the usual defence against flashes.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FRAME_HEIGHT",
    "FRAME_WIDTH",
    "FeatureBuilder",
    "FrameFeatures",
    "ShotSettings",
    "Transition",
    "detect_transitions",
]

FRAME_WIDTH = 64
FRAME_HEIGHT = 36

_CELL = 4  # pixels on the side of one luma cell
_ROWS, _COLS = FRAME_HEIGHT // _CELL, FRAME_WIDTH // _CELL  # 9 x 16
_CHROMA_ROWS, _CHROMA_COLS = 3, 4  # cells of 12 x 16 pixels
_CHROMA = _CHROMA_ROWS * _CHROMA_COLS * 2
_BINS = (32, 16, 16)  # of luma, Cb and Cr
_BIN_BLUR = 10.0  # levels: blurred, so that a slow change of light does not jump from bin to bin
_BIN_SHARES = 4096  # bin weights are multiples of its inverse: float32 sums of them over a frame are exact
_PIXELS = FRAME_WIDTH * FRAME_HEIGHT
_BLACK = 20  # luma at or below which a cell counts as black: 16 is black in limited range
_FLAT = 0.002  # contrast, half a level: steps below it are no longer part of a ramp
_SHORTEST_RAMP_US = 120_000
# Histogram distance from which it is worth as much as layout; a still, grainy shot stays below about 0.05.
_FULL_HELLINGER = 0.2
_BATCH = 256  # frames worked on at once while features are built: about 10 MB of temporaries
_CHUNK = 4096  # frames worked on at once during detection: about 30 MB of temporaries

_U8 = NDArray[np.uint8]
_I64 = NDArray[np.int64]
_F32 = NDArray[np.float32]
_Bool = NDArray[np.bool_]
_Lasting = Callable[[int], tuple[float, int, int]]


@dataclass(frozen=True, slots=True)
class ShotSettings:
    """Thresholds of the detector. Distances are 0..1; times are integer microseconds.

    Unless a field says otherwise its value was chosen on the TUNE half of ``benchmarks/films.py``
    (``python -m benchmarks.shot_detection``), never on the REPORT half.
    """

    cut_distance: float = 0.18
    """Least strength of a cut: distance of the frame sets on both sides (see `_distance`), less where it is
    not `full_spread`."""
    cut_ratio: float = 3.5
    """How many times a cut's strength must exceed the usual frame-to-frame distance around it."""
    full_spread: float = 0.5
    """Evenness from which a change counts in full (see `_share_changed`). Changes of part of the picture,
    such as an object that appears, lie below 0.3, cuts between full pictures mostly above 0.5."""
    near_us: int = 200_000
    """Time on each side over which a burst of movement is looked for: whip pans take 0.2-0.5 s."""
    around_quantile: float = 0.75
    """Quantile of the distances around that is called usual: flashes may fill up to a quarter of the
    steps."""
    persist_us: int = 250_000
    """How long a change must last. Three flash frames at 24 fps take 125 ms; a decaying flash about twice
    that."""
    around_us: int = 500_000
    """Time on each side over which the usual frame-to-frame distance is measured."""
    lighting_pattern: float = 0.85
    """Two frames whose patterns of light and of colour both have a cosine above this show one scene in other
    light."""
    dissolve_windows_us: tuple[int, ...] = (300_000, 500_000, 800_000, 1_200_000, 1_800_000, 2_600_000)
    """Window lengths tried, near a factor of 1.5 apart; dissolves in edited film mostly last 0.3-2.5 s."""
    dissolve_distance: float = 0.08
    """Root-mean-square grid distance of a dissolve's two ends from which it counts in full; under half of it
    nothing is one."""
    blend_residual: float = 0.4
    """Most that the frames in between may deviate from a linear blend, as a share of the distance of the
    ends. Pans over textured pictures give 0.5 to 1, the root of a half being what three unrelated pictures
    give."""
    side_weight: float = 0.9
    """How much movement outside a window speaks against a dissolve. A constant pan moves as far in half a
    window before and after, summed, as inside (1), a dissolve between still shots not at all (0)."""
    shift_share: float = 0.5
    """Least share of the ends' difference that must remain when one is shifted onto the other: below it the
    camera moved."""
    dissolve_score: float = 0.34
    """Least score of a dissolve: (1 - residual) * (1 - side_weight * side), less where its ends differ
    little or in part only."""
    blank_contrast: float = 0.02
    """Standard deviation of luma below which a picture is blank. 0.02 is five of 255 levels: coding noise."""
    blank_level: float = 0.10
    """A blank picture ends a fade when its mean luma is within this of black or of white."""
    fade_reach_us: int = 3_000_000
    """Longest ramp followed on each side of a blank picture."""
    min_gap_us: int = 200_000
    """Transitions nearer than this to a stronger one are dropped."""

    def __post_init__(self) -> None:
        for name in (
            "cut_distance",
            "dissolve_distance",
            "blend_residual",
            "side_weight",
            "shift_share",
            "dissolve_score",
            "blank_contrast",
            "blank_level",
            "lighting_pattern",
            "full_spread",
            "around_quantile",
        ):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise ValueError(f"ShotSettings.{name} is {value!r}: it must be above 0 and at most 1")
        if not self.cut_ratio >= 1:
            raise ValueError(f"ShotSettings.cut_ratio is {self.cut_ratio!r}: it must be at least 1")
        for name in ("persist_us", "around_us", "near_us", "fade_reach_us", "min_gap_us"):
            value = getattr(self, name)
            if not isinstance(value, int) or value <= 0:
                raise ValueError(
                    f"ShotSettings.{name} is {value!r}: it must be a whole number of "
                    "microseconds above 0 (250_000 is a quarter of a second)"
                )
        windows = self.dissolve_windows_us
        if (
            not windows
            or any(not isinstance(w, int) or w <= 0 for w in windows)
            or list(windows) != sorted(set(windows))
        ):
            raise ValueError(
                f"ShotSettings.dissolve_windows_us is {windows!r}: it must be a rising tuple of "
                "whole microseconds above 0"
            )


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of shot. Times are presentation times in microseconds."""

    kind: Literal["cut", "dissolve", "fade"]
    start_us: int
    """Last moment wholly of the old shot; equal to `at_us` for a cut."""
    end_us: int
    """First moment wholly of the new shot; equal to `at_us` for a cut."""
    at_us: int
    """Where a boundary belongs: a cut's first new frame, a dissolve's centre, a fade's blankest moment."""
    score: float
    """Strength, 0..1."""


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """What detection and the measured signals need of `n` frames: 255 bytes a frame, in columns."""

    times_us: _I64
    """int64[n], presentation times, never falling."""
    grid: _U8
    """uint8[n, 144], mean luma of 9 x 16 cells, row by row from the top left."""
    chroma: _U8
    """uint8[n, 24], mean Cb then Cr (128 is neutral) of 3 x 4 cells."""
    histogram: _U8
    """uint8[n, 64], 255 * sqrt(share of pixels) in 32 bins of luma, 16 of Cb and 16 of Cr, blurred. The root
    is what the Hellinger distance needs, and it spends the eight bits on small shares."""
    brightness: _F32
    """float32[n], mean luma, 0..1."""
    contrast: _F32
    """float32[n], standard deviation of luma over pixels, 0..0.5."""
    motion: _F32
    """float32[n], mean absolute luma change of a pixel since the frame before, 0..1; 0 for the first
    frame."""
    mean_rgb: _U8
    """uint8[n, 3], mean colour."""

    def __len__(self) -> int:
        return len(self.times_us)

    @property
    def nbytes(self) -> int:
        """Bytes held by the columns."""
        return sum(int(getattr(self, f.name).nbytes) for f in fields(self))


class FeatureBuilder:
    """Turns streamed frames into :class:`FrameFeatures`; the pieces may be of any size."""

    def __init__(self) -> None:
        self._parts: list[FrameFeatures] = []
        self._last_luma: _U8 | None = None
        self._last_us: int | None = None

    def add(self, frames: _U8, times_us: _I64) -> None:
        """Adds `k` further frames.

        Args:
            frames: uint8[k, 36, 64, 3], RGB.
            times_us: int64[k], presentation times in microseconds, never falling. Equal times are allowed.

        Raises:
            ValueError: on another shape or dtype, or where time runs backwards.
        """
        frames, times_us = np.asarray(frames), np.asarray(times_us)
        if frames.dtype != np.uint8 or frames.shape[1:] != (FRAME_HEIGHT, FRAME_WIDTH, 3):
            raise ValueError(
                f"frames are {frames.dtype}{list(frames.shape)}: they must be "
                f"uint8[k, {FRAME_HEIGHT}, {FRAME_WIDTH}, 3] in RGB; scale them in the decoder"
            )
        if times_us.shape != (len(frames),) or not np.issubdtype(times_us.dtype, np.integer):
            raise ValueError(
                f"times_us is {times_us.dtype}{list(times_us.shape)}: it must hold one whole number of "
                f"microseconds for each of the {len(frames)} frames"
            )
        times = times_us.astype(np.int64)
        before = times if self._last_us is None else np.concatenate([[self._last_us], times])
        falls = np.flatnonzero(np.diff(before) < 0)
        if len(falls):
            at = int(falls[0])
            raise ValueError(
                f"times_us falls from {before[at]} to {before[at + 1]}: frames must come in presentation order"
            )
        for first in range(0, len(frames), _BATCH):
            piece = frames[first : first + _BATCH]
            features, self._last_luma = _measure(piece, times[first : first + _BATCH], self._last_luma)
            self._parts.append(features)
        if len(times):
            self._last_us = int(times[-1])
        if len(self._parts) >= 1024:  # frames that come one by one would leave one object each
            self._parts = [_join(self._parts)]

    def build(self) -> FrameFeatures:
        """The features of all frames so far; the builder may go on being fed."""
        self._parts = [_join(self._parts)]
        return self._parts[0]


def detect_transitions(features: FrameFeatures, settings: ShotSettings = ShotSettings()) -> tuple[Transition, ...]:
    """The changes of shot, in order of `at_us`; empty for a single shot and for fewer than two frames.

    Temporaries are bounded: a few numbers a frame, and `_CHUNK` frames of wide arrays at a time.
    """
    if len(features) < 2:
        return ()
    steps = _step_distances(features)
    blanks = _find_blanks(features, settings)
    cuts = [c for c in _find_cuts(features, steps, settings) if not any(_in_fade(c, blank) for blank in blanks)]
    fades = [_clip_to_cuts(blank.fade, cuts) for blank in blanks]
    blocked = [*fades, *cuts]
    dissolves = [d for d in _find_dissolves(features, blocked, settings) if not _overlaps(d, blocked)]
    between = [fade for fade, blank in zip(fades, blanks, strict=True) if not blank.at_an_end]
    return _keep_strongest([*between, *cuts, *dissolves], settings.min_gap_us)


# --------------------------------------------------------------------------------------------------- features


def _measure(frames: _U8, times_us: _I64, last_luma: _U8 | None) -> tuple[FrameFeatures, _U8]:
    """Features of up to `_BATCH` frames, and the last frame's luma uint8[36, 64] for the next batch's
    motion."""
    count = len(frames)
    red, green, blue = (np.ascontiguousarray(frames[..., c]) for c in range(3))
    # ITU-R BT.601 luma in eighths of bits: 77 + 150 + 29 = 256
    luma = ((red * np.uint16(77) + green * np.uint16(150) + blue * np.uint16(29)) >> 8).astype(np.uint8)
    before = np.concatenate([luma[:1] if last_luma is None else last_luma[None], luma[:-1]])
    change = np.maximum(luma, before) - np.minimum(luma, before)
    # ITU-R BT.601 chroma: 0.564 (B - Y) and 0.713 (R - Y), here in 1/128, around 128
    deep = luma.astype(np.int16)
    cb = (((blue - deep) * np.int16(72) >> 7) + 128).astype(np.uint8)
    cr = (((red - deep) * np.int16(91) >> 7) + 128).astype(np.uint8)
    grid = _pool(luma.astype(np.uint16), _CELL, _CELL) / np.float32(_CELL**2)
    rows, cols = FRAME_HEIGHT // _CHROMA_ROWS, FRAME_WIDTH // _CHROMA_COLS
    chroma = np.stack([_pool(plane.astype(np.uint16), rows, cols) for plane in (cb, cr)], axis=1) / (rows * cols)
    histogram = np.concatenate(
        [_histogram(plane, bins) for plane, bins in zip((luma, cb, cr), _BINS, strict=True)], axis=1
    )
    mean = _sums(luma) / _PIXELS
    flat = luma.reshape(count, -1).astype(np.float64)
    variance = np.einsum("ij,ij->i", flat, flat) / _PIXELS - mean**2
    return FrameFeatures(
        times_us=times_us.copy(),
        grid=_to_u8(grid.reshape(count, -1)),
        chroma=_to_u8(chroma.reshape(count, -1)),
        histogram=_to_u8(np.sqrt(histogram) * 255),
        brightness=(mean / 255).astype(np.float32),
        contrast=(np.sqrt(np.maximum(variance, 0)) / 255).astype(np.float32),
        motion=(_sums(change) / (_PIXELS * 255)).astype(np.float32),
        mean_rgb=_to_u8(np.stack([_sums(plane) for plane in (red, green, blue)], axis=1) / _PIXELS),
    ), luma[-1].copy()


def _sums(planes: _U8) -> NDArray[np.float64]:
    """Sums of planes [k, 36, 64]: float64[k], exact and so the same however frames are batched."""
    return np.asarray(np.add.reduce(planes.reshape(len(planes), -1), axis=1, dtype=np.uint32), np.float64)


def _histogram(plane: _U8, bins: int) -> _F32:
    """Blurred shares of the levels of planes [k, 36, 64]: float32[k, bins], each row summing to 1."""
    count = len(plane)
    offsets = np.arange(count, dtype=np.int64)[:, None] * 256
    counts = np.bincount((plane.reshape(count, -1) + offsets).ravel(), minlength=count * 256).reshape(count, 256)
    # Not `@`: BLAS would wake a thread for each core, which then spins longer than this takes.
    shares = np.einsum("kl,lb->kb", counts.astype(np.float32), _bin_weights(bins))
    return np.asarray(shares / _PIXELS, dtype=np.float32)


@cache
def _bin_weights(bins: int) -> _F32:
    """How a level 0..255 is shared out over `bins`: float32[256, bins]. Chroma, of which natural pictures use
    the middle, has its bins over 64..192."""
    low, high = (0, 256) if bins == _BINS[0] else (64, 192)
    centres = low + (np.arange(bins) + 0.5) * (high - low) / bins
    levels = np.clip(np.arange(256), low, high)
    weights = np.exp(-0.5 * ((levels[:, None] - centres) / (_BIN_BLUR * (high - low) / 256)) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(np.round(weights * _BIN_SHARES) / _BIN_SHARES, dtype=np.float32)


def _pool(planes: NDArray[Any], rows: int, cols: int) -> NDArray[Any]:
    """Sums of `rows` x `cols` blocks of planes [k, h, w]. Strided adds: several times faster than a sum over
    axes."""
    wide = planes[:, :, 0::cols].copy()
    for at in range(1, cols):
        wide += planes[:, :, at::cols]
    pooled = wide[:, 0::rows].copy()
    for at in range(1, rows):
        pooled += wide[:, at::rows]
    return pooled


def _to_u8(values: NDArray[Any]) -> _U8:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def _join(parts: list[FrameFeatures]) -> FrameFeatures:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return _EMPTY
    return FrameFeatures(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(FrameFeatures)})


_EMPTY = FrameFeatures(
    times_us=np.zeros(0, np.int64),
    grid=np.zeros((0, _ROWS * _COLS), np.uint8),
    chroma=np.zeros((0, _CHROMA), np.uint8),
    histogram=np.zeros((0, sum(_BINS)), np.uint8),
    brightness=np.zeros(0, np.float32),
    contrast=np.zeros(0, np.float32),
    motion=np.zeros(0, np.float32),
    mean_rgb=np.zeros((0, 3), np.uint8),
)


# -------------------------------------------------------------------------------------------------- distances


def _distance(features: FrameFeatures, left: _I64, right: _I64) -> _F32:
    """Distance 0..1 of the frames `left` and `right` (int64[m] each): float32[m].

    Half comes from where light and colour sit and half from how much there is of each colour (Hellinger
    distance of the histograms). Motion disturbs the first, a change of light the second, a new shot both.
    Each luma cell is compared with the nearest value among a cell and its eight neighbours, so that a shake
    or a pan of up to a sixteenth of the width costs little.
    """
    one = features.grid[left].reshape(-1, _ROWS, _COLS)
    two = features.grid[right].reshape(-1, _ROWS, _COLS)
    place = np.maximum(_outside_neighbours(one, two), _outside_neighbours(two, one))
    chroma = _absolute(features.chroma[left], features.chroma[right]).mean(axis=1, dtype=np.float32)
    amount = _hellinger(features, left, right) ** 2
    where = np.clip((place + 2 * chroma) / 255 / 0.2, 0, 1)
    return np.asarray(0.5 * where + 0.5 * amount, dtype=np.float32)


def _hellinger(features: FrameFeatures, left: _I64, right: _I64) -> _F32:
    """Hellinger distance of the frames' histograms, 0..1: float32[m]. Moving things hardly change it."""
    overlap = np.einsum(
        "ij,ij->i", features.histogram[left].astype(np.float32), features.histogram[right].astype(np.float32)
    )
    return np.asarray(np.sqrt(np.clip(1 - overlap / (len(_BINS) * 255**2), 0, 1)), dtype=np.float32)


def _outside_neighbours(one: _U8, two: _U8) -> _F32:
    """Mean distance of each cell of `one` from the range of values around that cell in `two`: float32[m]."""
    padded = np.pad(two, ((0, 0), (1, 1), (1, 1)), mode="edge")
    low = np.minimum(np.minimum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    low = np.minimum(np.minimum(low[:, :, :-2], low[:, :, 1:-1]), low[:, :, 2:])
    high = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    high = np.maximum(np.maximum(high[:, :, :-2], high[:, :, 1:-1]), high[:, :, 2:])
    outside = np.maximum(one, high) - np.minimum(one, low) - (high - low)
    return np.asarray(outside.reshape(len(one), -1).mean(axis=1, dtype=np.float32))


def _absolute(one: _U8, two: _U8) -> _U8:
    return np.maximum(one, two) - np.minimum(one, two)


def _step_distances(features: FrameFeatures) -> _F32:
    """Distance of every frame from the one before it: float32[n], 0 for the first."""
    steps = np.zeros(len(features), np.float32)
    for first in range(1, len(features), _CHUNK):
        right = np.arange(first, min(first + _CHUNK, len(features)))
        steps[right] = _distance(features, right - 1, right)
    return steps


def _only_light_changed(features: FrameFeatures, left: _I64, right: _I64, settings: ShotSettings) -> _Bool:
    """Whether the frames `left` and `right` differ by exposure only: bool[m]. A gain scales luma about its
    mean and colour about grey, so both keep their pattern: the cosines of the two patterns stay near 1."""
    light = [features.grid[at].astype(np.float32) for at in (left, right)]
    light = [rows - rows.mean(axis=1, keepdims=True) for rows in light]
    colour = [features.chroma[at].astype(np.float32) - 128 for at in (left, right)]
    same_light, light_power = _cosine(light[0], light[1])
    same_colour, colour_power = _cosine(colour[0], colour[1])
    # patterns weaker than 3 of 255 levels are noise: no layout to compare, no colour to differ in
    return np.asarray(
        (same_light > settings.lighting_pattern)
        & (light_power > 3.0**2)
        & ((same_colour > settings.lighting_pattern) | (colour_power < 3.0**2))
    )


def _cosine(one: _F32, two: _F32) -> tuple[_F32, _F32]:
    """Cosine of rows, float32[m], and their mean power."""
    power = np.sqrt(np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", two, two))
    return np.asarray(np.einsum("ij,ij->i", one, two) / np.maximum(power, 1e-6)), np.asarray(power / one.shape[1])


def _share_changed(features: FrameFeatures, left: _I64, right: _I64) -> _F32:
    """How evenly a change is spread over the picture: median over root mean square of the cells' luma change,
    0 where less than half of the picture changes and 0.67 for a normal distribution. Bars that are black in
    both frames do not count. float32[m]."""
    one, two = features.grid[left], features.grid[right]
    shown = np.maximum(one, two) > _BLACK
    change = _absolute(one, two)
    count = np.maximum(shown.sum(axis=1), 1)
    ranked = np.sort(np.where(shown, change, np.uint8(255)), axis=1)  # the bars go last
    median = ranked[np.arange(len(ranked)), (count - 1) // 2].astype(np.float32)
    power = np.where(shown, change, np.uint8(0)).astype(np.float32)
    mean_square = np.einsum("ij,ij->i", power, power) / count
    return np.asarray(median / np.sqrt(mean_square + 1), dtype=np.float32)


# ------------------------------------------------------------------------------------------------------- cuts


def _find_cuts(features: FrameFeatures, steps: _F32, settings: ShotSettings) -> list[Transition]:
    times = features.times_us
    found = []
    # steps are visited in order, so what is asked again lies within a second or so: 512 frames are plenty
    lasting = lru_cache(maxsize=512)(lambda step: _lasting_change(features, step, settings))
    for at in np.flatnonzero(steps >= settings.cut_distance).tolist():
        score = _cut_score(features, steps, at, lasting, settings)
        if score is not None:
            when = int(times[at])
            found.append(Transition("cut", when, when, when, score))
    return found


def _cut_score(
    features: FrameFeatures, steps: _F32, at: int, lasting: _Lasting, settings: ShotSettings
) -> float | None:
    """How far apart the frame sets on both sides of the step into frame `at` are, or None where that is no
    cut."""
    times = features.times_us
    apart, left, right = lasting(at)
    pair = np.array([left]), np.array([right])
    strength = apart * min(1.0, float(_share_changed(features, *pair)[0]) / settings.full_spread)
    if strength < settings.cut_distance or _only_light_changed(features, *pair, settings)[0]:
        return None
    first, last = (
        _first_at(times, times[at] - settings.around_us),
        _after(times, times[at] + settings.around_us),
    )
    around = np.array([k for k in range(max(first, 1), last) if k != at], dtype=np.int64)
    near = np.abs(times[around] - times[at]) <= settings.near_us
    usual = steps[around]
    if not _stands_out(strength, usual, near, settings):
        # flashes near by may be what made the usual step look large: count only what lasts of each large step
        for k in np.flatnonzero(usual > strength / settings.cut_ratio).tolist():
            usual[k] = min(float(usual[k]), lasting(int(around[k]))[0])
        if not _stands_out(strength, usual, near, settings):
            return None
    return min(strength, 1.0)


def _stands_out(strength: float, usual: _F32, near: _Bool, settings: ShotSettings) -> bool:
    """Whether a step exceeds what is usual around it and, for bursts such as a whip pan, the middle one of
    those near it."""
    level = float(np.quantile(usual, settings.around_quantile)) if len(usual) else 0.0
    burst = float(np.median(usual[near])) if near.any() else 0.0
    return strength >= settings.cut_ratio * max(level, burst)


def _lasting_change(features: FrameFeatures, at: int, settings: ShotSettings) -> tuple[float, int, int]:
    """Least distance between a frame of the time before frame `at` and one of the time from it on, and those
    two frames."""
    times = features.times_us
    old = _spread(_first_at(times, times[at - 1] - settings.persist_us), at)
    new = _spread(at, _after(times, times[at] + settings.persist_us))
    left, right = np.repeat(old, len(new)), np.tile(new, len(old))
    apart = _distance(features, left, right)
    nearest = int(apart.argmin())
    return float(apart[nearest]), int(left[nearest]), int(right[nearest])


def _spread(first: int, last: int) -> _I64:
    """At most eight frame numbers spread over [first, last), both ends included: int64[m]."""
    return np.unique(np.linspace(first, last - 1, num=min(8, last - first)).round().astype(np.int64))


# ------------------------------------------------------------------------------------------------------ fades


@dataclass(frozen=True, slots=True)
class _Blank:
    """A blank stretch and the fade that it belongs to."""

    fade: Transition
    first_us: int
    """First blank frame."""
    last_us: int
    """First frame after it."""
    at_an_end: bool
    """The film begins or ends blank, so that this bounds no shot."""


def _find_blanks(features: FrameFeatures, settings: ShotSettings) -> list[_Blank]:
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
            alike = float(_distance(features, np.array([start]), np.array([end]))[0]) < settings.cut_distance
            if not ramped or (alike and level[first] > 0.5):
                continue  # a flash, which may afterglow
        ties = first + np.flatnonzero(contrast[first:last] <= contrast[first:last].min() + _FLAT)
        at = int(times[ties[0]] + times[ties[-1]]) // 2
        fade = Transition("fade", int(times[start]), int(times[end]), at, 1.0)
        found.append(_Blank(fade, int(times[first]), int(times[min(last, end)]), not inside))
    return found


def _is_ramp(times: _I64, first: int, last: int) -> bool:
    return last - first >= 2 and int(times[last] - times[first]) > _SHORTEST_RAMP_US


def _in_fade(cut: Transition, blank: _Blank) -> bool:
    """Whether a cut is only a fade's steep part: in the blank stretch or in the half of a ramp that is
    nearer to it."""
    return (blank.fade.start_us + blank.first_us) // 2 <= cut.at_us <= (blank.last_us + blank.fade.end_us) // 2


def _clip_to_cuts(fade: Transition, cuts: list[Transition]) -> Transition:
    """Ends a fade's ramps at the cuts they run into."""
    start = max([fade.start_us, *(c.at_us for c in cuts if c.at_us < fade.at_us)])
    end = min([fade.end_us, *(c.at_us for c in cuts if c.at_us > fade.at_us)])
    return replace(fade, start_us=start, end_us=end)


def _ramp_end(contrast: _F32, times: _I64, at: int, step: int, reach_us: int) -> int:
    """Follows rising contrast away from a blank stretch, from frame `at` on; the frame where it stops rising
    for good."""
    origin = int(times[at])
    ahead, best = at + step, at
    while 0 <= ahead < len(times) and abs(int(times[ahead]) - origin) <= reach_us:
        if contrast[ahead] >= contrast[best] + _FLAT:
            best = ahead
        elif abs(int(times[ahead] - times[best])) > _SHORTEST_RAMP_US:
            break
        ahead += step
    return best


# -------------------------------------------------------------------------------------------------- dissolves


@dataclass(frozen=True, slots=True)
class _Windows:
    """Measures of `m` windows that may hold a dissolve, each an array over m."""

    start_us: _I64
    end_us: _I64
    old: _I64
    """Frame at the start."""
    new: _I64
    """Frame at the end."""
    distance: _F32
    """Root-mean-square grid distance of the two, 0..1."""
    shares: _F32
    """float32[m, 3], share of the new picture a quarter, half and three quarters through."""
    residual: _F32
    """What a linear blend leaves unexplained there, as a share of `distance`: the mean over the three."""
    side: _F32
    """How far the picture moves within half a window before and after, summed, as a share of `distance`."""
    colour_side: _F32
    """The same for its colour histogram, at most 1.5."""
    colour_distance: _F32
    """Hellinger distance of the two ends' histograms, 0..1."""


def _find_dissolves(features: FrameFeatures, blocked: list[Transition], settings: ShotSettings) -> list[Transition]:
    candidates = []
    for length in settings.dissolve_windows_us:
        for first in range(0, len(features), _CHUNK):
            windows = _measure_windows(features, first, min(first + _CHUNK, len(features)), length, blocked, settings)
            if windows is not None:
                candidates += _judge_windows(features, windows, settings)
    found = _take_strongest(candidates, [(c.start_us, c.end_us) for c in candidates])
    return [_fit_ends(features, dissolve) for dissolve in found]


def _measure_windows(
    features: FrameFeatures,
    first: int,
    last: int,
    length_us: int,
    blocked: list[Transition],
    settings: ShotSettings,
) -> _Windows | None:
    """Measures the windows of one length that are centred on the frames [first, last), lie clear of the
    `blocked` transitions and have ends far enough apart."""
    times = features.times_us
    centre = times[first:last]
    half, quarter = length_us // 2, length_us // 4
    bounds = sorted((b.start_us, b.end_us) for b in blocked)
    starts = np.array([int(times[0]), *(b[0] for b in bounds), int(times[-1])], dtype=np.int64)
    ends = np.array([int(times[0]), *(b[1] for b in bounds), int(times[-1])], dtype=np.int64)
    gap = np.clip(np.searchsorted(ends, centre, side="right"), 1, len(ends) - 1)
    floor, ceiling = ends[gap - 1], starts[gap]  # the free stretch around each centre
    room = min(half, _SHORTEST_RAMP_US)
    keep = (centre - half - room >= floor) & (centre + half + room < ceiling)
    if not keep.any():
        return None
    centre, floor, ceiling = centre[keep], floor[keep], ceiling[keep]
    old, new = _first_after(times, centre - half - 1), _nearest(times, centre + half)
    distance = _rms(_vector(features, new) - _vector(features, old))
    keep = distance >= settings.dissolve_distance / 2
    if not keep.any():
        return None
    centre, floor, ceiling = centre[keep], floor[keep], ceiling[keep]
    old, new, distance = old[keep], new[keep], distance[keep]
    one, two = _vector(features, old), _vector(features, new)
    span = two - one
    power = np.einsum("ij,ij->i", span, span)
    shares, rests = [], []
    for offset in (-quarter, 0, quarter):
        frame = _vector(features, _nearest(times, centre + offset)) - one
        share = np.einsum("ij,ij->i", frame, span) / power
        rest = frame - share[:, None] * span
        shares.append(share)
        rests.append(np.sqrt(np.einsum("ij,ij->i", rest, rest) / power))
    before = np.minimum(_first_after(times, np.maximum(centre - 2 * half, floor) - 1), old)
    after = np.maximum(_last_before(times, np.minimum(centre + 2 * half, ceiling)), new)
    side, colour_side = np.zeros(len(old), np.float32), np.zeros(len(old), np.float32)
    for inner, outer, ends_at in ((old, before, one), (new, after, two)):
        seen = np.abs(times[inner] - times[outer])  # less than half a window where another transition is near
        stretch = (half / np.maximum(seen, room)).astype(np.float32)
        side += _rms(_vector(features, outer) - ends_at) * stretch
        colour_side += _hellinger(features, inner, outer) * stretch
    colour = _hellinger(features, old, new)
    return _Windows(
        centre - half,
        centre + half,
        old,
        new,
        distance,
        np.stack(shares, axis=1),
        np.mean(rests, axis=0, dtype=np.float32),
        side / distance,
        np.minimum(colour_side / np.maximum(colour, 1e-3), 1.5),
        colour,
    )


def _judge_windows(features: FrameFeatures, windows: _Windows, settings: ShotSettings) -> list[Transition]:
    """The windows that hold a dissolve, scored."""
    shares = windows.shares
    rising = (shares[:, 0] > 0.04) & (np.diff(shares, axis=1).min(axis=1) > 0.1) & (shares[:, 2] < 0.96)
    say = 0.5 * np.minimum(1, windows.colour_distance / _FULL_HELLINGER)  # colours that hardly change tell nothing
    outside = settings.side_weight * ((1 - say) * windows.side + say * windows.colour_side)
    score = (1 - windows.residual) * np.clip(1 - outside, 0, 1)
    score *= np.minimum(1, windows.distance / settings.dissolve_distance)
    score *= np.minimum(1, _share_changed(features, windows.old, windows.new) / settings.full_spread)
    good = rising & (windows.residual <= settings.blend_residual) & (score >= settings.dissolve_score)
    good &= ~_only_light_changed(features, windows.old, windows.new, settings)
    passed = np.flatnonzero(good)
    good[passed] = _share_left_by_shift(features, windows.old[passed], windows.new[passed]) >= settings.shift_share
    return [
        Transition("dissolve", start, end, (start + end) // 2, float(score[at]))
        for at, start, end in zip(
            np.flatnonzero(good).tolist(),
            windows.start_us[good].tolist(),
            windows.end_us[good].tolist(),
            strict=True,
        )
    ]


def _share_left_by_shift(features: FrameFeatures, left: _I64, right: _I64) -> _F32:
    """Root-mean-square luma difference of frames over their best shift against each other, as a share of
    that unshifted: float32[m]. Shifts go up to a third of the picture each way, in whole cells."""
    one = features.grid[left].reshape(-1, _ROWS, _COLS).astype(np.float32)
    two = features.grid[right].reshape(-1, _ROWS, _COLS).astype(np.float32)
    unshifted = np.sqrt(((one - two) ** 2).mean(axis=(1, 2)))
    best = unshifted.copy()
    for down in range(-_ROWS // 3, _ROWS // 3 + 1):
        for across in range(-_COLS // 3, _COLS // 3 + 1):
            part = one[:, max(down, 0) : _ROWS + min(down, 0), max(across, 0) : _COLS + min(across, 0)]
            other = two[:, max(-down, 0) : _ROWS + min(-down, 0), max(-across, 0) : _COLS + min(-across, 0)]
            best = np.minimum(best, np.sqrt(((part - other) ** 2).mean(axis=(1, 2))))
    return np.asarray(best / (unshifted + 1), dtype=np.float32)  # 1: differences of a level are noise


def _fit_ends(features: FrameFeatures, window: Transition) -> Transition:
    """Narrows a window to the dissolve inside it: from the middle half of its rise, a quarter to three
    quarters of the new picture, as if it rose as evenly before and after. The ends of a window may be camera
    movement; the middle is the dissolve."""
    times = features.times_us
    inside = np.arange(_first_at(times, window.start_us), _after(times, window.end_us))
    rows = _vector(features, inside)
    span = rows[-1] - rows[0]
    shares = (rows - rows[0]) @ span / max(float(span @ span), 1e-9)
    middle = int(np.argmax(shares >= 0.5))
    quarter = int(np.flatnonzero(shares[: middle + 1] <= 0.25)[-1])
    three = middle + int(np.argmax(shares[middle:] >= 0.75))
    rise = int(times[inside[three]] - times[inside[quarter]])
    start = max(int(times[inside[quarter]]) - rise // 2, window.start_us)
    end = min(int(times[inside[three]]) + rise // 2, window.end_us)
    return replace(window, start_us=start, end_us=end, at_us=(start + end) // 2)


def _vector(features: FrameFeatures, frames: _I64) -> _F32:
    """Layout of light and colour, float32[m, 168], about 0..1; linear in the pixels, so that a blend stays a
    blend."""
    rows = np.concatenate([features.grid[frames], features.chroma[frames]], axis=1).astype(np.float32)
    return rows / np.float32(255)


def _rms(rows: _F32) -> _F32:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows) / rows.shape[1]), dtype=np.float32)


# ---------------------------------------------------------------------------------------------------- helpers


def _first_at(times: _I64, when: int) -> int:
    """First frame at or after `when`."""
    return int(np.searchsorted(times, when, side="left"))


def _after(times: _I64, when: int) -> int:
    """First frame after `when`."""
    return int(np.searchsorted(times, when, side="right"))


def _first_after(times: _I64, when: _I64) -> _I64:
    """First frames after `when`, the last frame where there is none: int64[m]."""
    return np.minimum(np.searchsorted(times, when, side="right"), len(times) - 1).astype(np.int64)


def _last_before(times: _I64, when: _I64) -> _I64:
    """Last frames before `when`, the first frame where there is none: int64[m]."""
    return np.maximum(np.searchsorted(times, when, side="left") - 1, 0).astype(np.int64)


def _nearest(times: _I64, when: _I64) -> _I64:
    right = np.clip(np.searchsorted(times, when), 1, len(times) - 1)
    left = right - 1
    return np.where(when - times[left] <= times[right] - when, left, right).astype(np.int64)


def _overlaps(one: Transition, others: list[Transition]) -> bool:
    return any(one.start_us <= other.end_us and other.start_us <= one.end_us for other in others)


def _take_strongest(found: list[Transition], spans: list[tuple[int, int]]) -> list[Transition]:
    """The transitions in order of score whose spans (both ends included) are clear of those taken before."""
    taken: list[Transition] = []
    taken_spans: list[tuple[int, int]] = []  # sorted; they never overlap, so only the two neighbours matter
    for number in sorted(range(len(found)), key=lambda n: (-found[n].score, spans[n])):
        span = spans[number]
        place = bisect.bisect(taken_spans, span)
        if place > 0 and taken_spans[place - 1][1] >= span[0]:
            continue
        if place < len(taken_spans) and taken_spans[place][0] <= span[1]:
            continue
        taken_spans.insert(place, span)
        taken.append(found[number])
    return taken


def _keep_strongest(found: list[Transition], min_gap_us: int) -> tuple[Transition, ...]:
    kept = _take_strongest(found, [(t.at_us, t.at_us + min_gap_us - 1) for t in found])
    return tuple(sorted(kept, key=lambda t: t.at_us))
