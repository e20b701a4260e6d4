"""Generated frames for the tests of shot detection."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from promptreel.media.shots import (
    FRAME_HEIGHT,
    FRAME_WIDTH,
    FeatureBuilder,
    FrameFeatures,
    Transition,
    detect_transitions,
)

Frames = NDArray[np.uint8]
STEP_US = 40_000  # 25 frames per second


def picture(seed: int, width: int = FRAME_WIDTH) -> Frames:
    """Return a smooth random picture, uint8[36, width, 3]."""
    coarse = np.random.default_rng(seed).uniform(10, 240, (6, width // 8 + 1, 3))
    rows, cols = np.linspace(0, 4.99, FRAME_HEIGHT), np.linspace(0, coarse.shape[1] - 1.01, width)
    top, left = rows.astype(int), cols.astype(int)
    down, right = (rows - top)[:, None, None], (cols - left)[None, :, None]
    upper = coarse[top][:, left] * (1 - right) + coarse[top][:, left + 1] * right
    lower = coarse[top + 1][:, left] * (1 - right) + coarse[top + 1][:, left + 1] * right
    return (upper * (1 - down) + lower * down).astype(np.uint8)


def hold(still: Frames, count: int) -> Frames:
    return np.repeat(still[None], count, axis=0)


def blend(old: Frames, new: Frames, count: int) -> Frames:
    """Return `count` frames strictly between two pictures."""
    share = (np.arange(1, count + 1) / (count + 1))[:, None, None, None]
    return (old * (1 - share) + new * share).astype(np.uint8)


def dark(still: Frames, level: float) -> Frames:
    """Scale a picture to the mean `level`, 0..255."""
    return (still * (level / still.mean())).astype(np.uint8)


def even_times(count: int) -> NDArray[np.int64]:
    return np.arange(count, dtype=np.int64) * STEP_US


def features_of(frames: Frames, times_us: NDArray[np.int64] | None = None) -> FrameFeatures:
    builder = FeatureBuilder()
    builder.add(frames, even_times(len(frames)) if times_us is None else times_us)
    return builder.build()


def detect(*parts: Frames, times_us: NDArray[np.int64] | None = None) -> tuple[Transition, ...]:
    return detect_transitions(features_of(np.concatenate(parts), times_us))


def kinds(found: tuple[Transition, ...]) -> list[str]:
    return [transition.kind for transition in found]


A, B, C = picture(1), picture(2), picture(3)
BLACK, WHITE = np.zeros_like(A), np.full_like(A, 255)
