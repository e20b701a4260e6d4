"""Measurements along an item in bins of a tenth of a second: brightness, motion, colours, loudness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promptreel.media.shots import FrameFeatures
from promptreel.schemas.media import TimeSpan

BIN_US: Final = 100_000
COLOUR_BINS: Final = 64  # 4 levels each of red, green and blue, red slowest


@dataclass(frozen=True)
class Timeline:
    """Measurements of an item. Bin `i` covers [i, i + 1) tenths of a second.

    Attributes:
        brightness: float32[n], mean luma 0..1; empty without video.
        motion: float32[n], mean absolute luma change (0..1) per second; empty without video.
        colours: uint8[n, 64], 255 x share of the picture in each coarse colour; empty without video.
        loudness_dbfs: float32[m], RMS level relative to full scale; empty without audio.
    """

    brightness: NDArray[np.float32]
    motion: NDArray[np.float32]
    colours: NDArray[np.uint8]
    loudness_dbfs: NDArray[np.float32]

    def picture_bins(self, span: TimeSpan) -> slice:
        """Return the video bins that a span overlaps: at least one if the item has video."""
        return _bins(span, len(self.brightness))

    def sound_bins(self, span: TimeSpan) -> slice:
        """Return the audio bins that a span overlaps: at least one if the item has audio."""
        return _bins(span, len(self.loudness_dbfs))


class ColourCounter:
    """Counts coarse colours in a stream of frames. Only the first frame of each bin is counted, which is accurate enough."""

    def __init__(self) -> None:
        self._shares: dict[int, NDArray[np.uint8]] = {}

    def add(self, frames: NDArray[np.uint8], times_us: NDArray[np.int64]) -> None:
        """Add uint8[k, h, w, 3] RGB frames with their int64[k] times in microseconds."""
        for frame, time_us in zip(frames, times_us.tolist(), strict=True):
            if time_us // BIN_US not in self._shares:
                self._shares[time_us // BIN_US] = _colour_shares(frame)

    def shares(self, count: int) -> NDArray[np.uint8]:
        """Return 255 x the share of each coarse colour, uint8[count, 64]; a bin without frames repeats the previous one."""
        if not self._shares:
            return np.zeros((0, COLOUR_BINS), np.uint8)
        filled = sorted(self._shares)
        latest = np.maximum(np.searchsorted(filled, np.arange(count), side="right") - 1, 0)
        return np.stack([self._shares[index] for index in filled])[latest]


def _colour_shares(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    red, green, blue = frame[..., 0] >> 6, frame[..., 1] >> 6, frame[..., 2] >> 6
    counts = np.bincount(((red << 4) | (green << 2) | blue).ravel(), minlength=COLOUR_BINS)
    return np.asarray(np.round(counts / counts.sum() * 255), np.uint8)


def build_timeline(
    features: FrameFeatures, colours: ColourCounter, loudness_dbfs: NDArray[np.float32], duration_us: int
) -> Timeline:
    """Reduce per-frame features to bins. A bin without frames repeats the previous bin's brightness and colours, as a
    player shows a frame until the next one; its motion is 0."""
    if len(features) == 0:
        empty = np.zeros(0, np.float32)
        return Timeline(empty, empty, np.zeros((0, COLOUR_BINS), np.uint8), loudness_dbfs)
    count = max(1, -(-duration_us // BIN_US))
    bins = np.clip(features.times_us // BIN_US, 0, count - 1)
    frames_in_bin = np.bincount(bins, minlength=count)
    brightness = np.bincount(bins, features.brightness, count) / np.maximum(frames_in_bin, 1)
    motion = np.bincount(bins, features.motion, count) * (1_000_000 / BIN_US)
    filled = np.flatnonzero(frames_in_bin)
    shown = filled[np.maximum(np.searchsorted(filled, np.arange(count), side="right") - 1, 0)]
    return Timeline(
        brightness=brightness[shown].astype(np.float32),
        motion=motion.astype(np.float32),
        colours=colours.shares(count),
        loudness_dbfs=loudness_dbfs.astype(np.float32),
    )


def save_timeline(timeline: Timeline, path: Path) -> None:
    """Write a timeline as a compressed .npz file."""
    np.savez_compressed(
        path,
        brightness=timeline.brightness,
        motion=timeline.motion,
        colours=timeline.colours,
        loudness_dbfs=timeline.loudness_dbfs,
    )


def load_timeline(path: Path) -> Timeline:
    """Load a timeline written by `save_timeline`."""
    with np.load(path) as columns:
        return Timeline(columns["brightness"], columns["motion"], columns["colours"], columns["loudness_dbfs"])


def _bins(span: TimeSpan, count: int) -> slice:
    first = min(span.start_us // BIN_US, max(count - 1, 0))
    return slice(first, max(first + 1, min(count, -(-span.end_us // BIN_US))))
