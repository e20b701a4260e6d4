"""Per-frame features for the detector and the measured signals."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from promptreel.media.shots.arrays import F32, I64, U8

FRAME_WIDTH = 64
FRAME_HEIGHT = 36
CELL = 4  # pixels on the side of one luma cell
ROWS, COLS = FRAME_HEIGHT // CELL, FRAME_WIDTH // CELL  # 9 x 16
CHROMA_ROWS, CHROMA_COLS = 3, 4  # cells of 12 x 16 pixels
_CHROMA = CHROMA_ROWS * CHROMA_COLS * 2
BINS = (32, 16, 16)  # of luma, Cb and Cr


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """Features of `n` frames in columns, 255 bytes per frame."""

    times_us: I64
    """int64[n], presentation times, never decreasing."""
    grid: U8
    """uint8[n, 144], mean luma of 9 x 16 cells, row by row from the top left."""
    chroma: U8
    """uint8[n, 24], mean Cb then Cr (128 is neutral) of 3 x 4 cells."""
    histogram: U8
    """uint8[n, 64], 255 * sqrt(share of pixels) in 32 bins of luma, 16 of Cb and 16 of Cr, blurred. The
    Hellinger distance needs the root, which also gives small shares more of the eight bits."""
    brightness: F32
    """float32[n], mean luma, 0..1."""
    contrast: F32
    """float32[n], standard deviation of luma over pixels, 0..0.5."""
    motion: F32
    """float32[n], mean absolute luma change of a pixel since the previous frame, 0..1; 0 for the first."""
    mean_rgb: U8
    """uint8[n, 3], mean colour."""

    def __len__(self) -> int:
        return len(self.times_us)

    @property
    def nbytes(self) -> int:
        """Size of the columns in bytes."""
        return sum(int(getattr(self, f.name).nbytes) for f in fields(self))


def join(parts: list[FrameFeatures]) -> FrameFeatures:
    """Concatenate features in order."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return _EMPTY
    return FrameFeatures(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(FrameFeatures)})


_EMPTY = FrameFeatures(
    times_us=np.zeros(0, np.int64),
    grid=np.zeros((0, ROWS * COLS), np.uint8),
    chroma=np.zeros((0, _CHROMA), np.uint8),
    histogram=np.zeros((0, sum(BINS)), np.uint8),
    brightness=np.zeros(0, np.float32),
    contrast=np.zeros(0, np.float32),
    motion=np.zeros(0, np.float32),
    mean_rgb=np.zeros((0, 3), np.uint8),
)
