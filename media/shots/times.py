"""Frames by their presentation times."""

from __future__ import annotations

import numpy as np

from promptreel.media.shots.arrays import I64

SHORTEST_RAMP_US = 120_000  # a ramp of contrast, or of a blend, that lasts less is none


def first_at(times: I64, when: int) -> int:
    """First frame at or after `when`."""
    return int(np.searchsorted(times, when, side="left"))


def after(times: I64, when: int) -> int:
    """First frame after `when`."""
    return int(np.searchsorted(times, when, side="right"))


def first_after(times: I64, when: I64) -> I64:
    """First frames after `when`, the last frame where there is none: int64[m]."""
    return np.minimum(np.searchsorted(times, when, side="right"), len(times) - 1).astype(np.int64)


def last_before(times: I64, when: I64) -> I64:
    """Last frames before `when`, the first frame where there is none: int64[m]."""
    return np.maximum(np.searchsorted(times, when, side="left") - 1, 0).astype(np.int64)


def nearest(times: I64, when: I64) -> I64:
    """Frames nearest to `when`, the earlier of two as near: int64[m]."""
    right = np.clip(np.searchsorted(times, when), 1, len(times) - 1)
    left = right - 1
    return np.where(when - times[left] <= times[right] - when, left, right).astype(np.int64)
