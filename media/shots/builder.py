"""Compute features from streamed RGB frames."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptreel.media.shots.arrays import F32, I64, U8
from promptreel.media.shots.features import (
    BINS,
    CELL,
    CHROMA_COLS,
    CHROMA_ROWS,
    FRAME_HEIGHT,
    FRAME_WIDTH,
    FrameFeatures,
    join,
)

_BIN_BLUR = 10.0  # levels: blurred, so that a slow change of light does not jump from bin to bin
_BIN_SHARES = 4096  # bin weights are multiples of 1/4096, so float32 sums over a frame are exact
_PIXELS = FRAME_WIDTH * FRAME_HEIGHT
_BATCH = 256  # frames per step: about 10 MB of temporaries


class FeatureBuilder:
    """Build :class:`FrameFeatures` from frames that arrive in batches of any size."""

    def __init__(self) -> None:
        self._parts: list[FrameFeatures] = []
        self._last_luma: U8 | None = None
        self._last_us: int | None = None

    def add(self, frames: U8, times_us: I64) -> None:
        """Add `k` frames.

        Args:
            frames: uint8[k, 36, 64, 3], RGB.
            times_us: int64[k], presentation times in microseconds, never decreasing.

        Raises:
            ValueError: a shape or dtype is wrong, or a time is less than the one before.
        """
        frames, times_us = np.asarray(frames), np.asarray(times_us)
        if frames.dtype != np.uint8 or frames.shape[1:] != (FRAME_HEIGHT, FRAME_WIDTH, 3):
            raise ValueError(
                f"frames are {frames.dtype}{list(frames.shape)}; they must be "
                f"uint8[k, {FRAME_HEIGHT}, {FRAME_WIDTH}, 3] in RGB: scale them in the decoder"
            )
        if times_us.shape != (len(frames),) or not np.issubdtype(times_us.dtype, np.integer):
            raise ValueError(
                f"times_us is {times_us.dtype}{list(times_us.shape)}; it must have one integer number of "
                f"microseconds for each of the {len(frames)} frames"
            )
        times = times_us.astype(np.int64)
        before = times if self._last_us is None else np.concatenate([[self._last_us], times])
        falls = np.flatnonzero(np.diff(before) < 0)
        if len(falls):
            at = int(falls[0])
            raise ValueError(
                f"times_us decreases from {before[at]} to {before[at + 1]}; add frames in presentation order"
            )
        for first in range(0, len(frames), _BATCH):
            piece = frames[first : first + _BATCH]
            features, self._last_luma = _measure(piece, times[first : first + _BATCH], self._last_luma)
            self._parts.append(features)
        if len(times):
            self._last_us = int(times[-1])
        if len(self._parts) >= 1024:  # bounds the number of objects when frames arrive one by one
            self._parts = [join(self._parts)]

    def build(self) -> FrameFeatures:
        """Return the features of all frames so far; more frames can be added afterwards."""
        self._parts = [join(self._parts)]
        return self._parts[0]


def _measure(frames: U8, times_us: I64, last_luma: U8 | None) -> tuple[FrameFeatures, U8]:
    """Return the features of up to `_BATCH` frames, and the last frame's luma uint8[36, 64], from which the
    next batch measures motion."""
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
    grid = _pool(luma.astype(np.uint16), CELL, CELL) / np.float32(CELL**2)
    rows, cols = FRAME_HEIGHT // CHROMA_ROWS, FRAME_WIDTH // CHROMA_COLS
    chroma = np.stack([_pool(plane.astype(np.uint16), rows, cols) for plane in (cb, cr)], axis=1) / (rows * cols)
    histogram = np.concatenate(
        [_histogram(plane, bins) for plane, bins in zip((luma, cb, cr), BINS, strict=True)], axis=1
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


def _sums(planes: U8) -> NDArray[np.float64]:
    """Sum planes [k, 36, 64]: float64[k], exact, so it does not depend on the batches."""
    return np.asarray(np.add.reduce(planes.reshape(len(planes), -1), axis=1, dtype=np.uint32), np.float64)


def _histogram(plane: U8, bins: int) -> F32:
    """Return blurred shares of the levels of planes [k, 36, 64]: float32[k, bins], each row summing to 1."""
    count = len(plane)
    offsets = np.arange(count, dtype=np.int64)[:, None] * 256
    counts = np.bincount((plane.reshape(count, -1) + offsets).ravel(), minlength=count * 256).reshape(count, 256)
    # Not `@`: BLAS would wake a thread per core, and each spins for longer than this takes.
    shares = np.einsum("kl,lb->kb", counts.astype(np.float32), _bin_weights(bins))
    return np.asarray(shares / _PIXELS, dtype=np.float32)


@cache
def _bin_weights(bins: int) -> F32:
    """Return the weight of each level 0..255 in each bin: float32[256, bins]. Chroma bins cover 64..192, which
    is what natural pictures use."""
    low, high = (0, 256) if bins == BINS[0] else (64, 192)
    centres = low + (np.arange(bins) + 0.5) * (high - low) / bins
    levels = np.clip(np.arange(256), low, high)
    weights = np.exp(-0.5 * ((levels[:, None] - centres) / (_BIN_BLUR * (high - low) / 256)) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(np.round(weights * _BIN_SHARES) / _BIN_SHARES, dtype=np.float32)


def _pool(planes: NDArray[Any], rows: int, cols: int) -> NDArray[Any]:
    """Sum `rows` x `cols` blocks of planes [k, h, w]. Strided adds are several times faster than a sum over
    axes."""
    wide = planes[:, :, 0::cols].copy()
    for at in range(1, cols):
        wide += planes[:, :, at::cols]
    pooled = wide[:, 0::rows].copy()
    for at in range(1, rows):
        pooled += wide[:, at::rows]
    return pooled


def _to_u8(values: NDArray[Any]) -> U8:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)
