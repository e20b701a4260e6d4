"""Look up frames by presentation time."""

from __future__ import annotations

import numpy as np

from promptreel.media.shots.arrays import I64

MIN_RAMP_US = 120_000  # shorter ramps of contrast or of a blend are noise


def first_at(times: I64, when: int) -> int:
    """Return the first frame at or after `when`."""
    return int(np.searchsorted(times, when, side="left"))


def after(times: I64, when: int) -> int:
    """Return the first frame after `when`."""
    return int(np.searchsorted(times, when, side="right"))


def first_after(times: I64, when: I64) -> I64:
    """Return the first frames after `when`, or the last frame: int64[m]."""
    return np.minimum(np.searchsorted(times, when, side="right"), len(times) - 1).astype(np.int64)


def last_before(times: I64, when: I64) -> I64:
    """Return the last frames before `when`, or the first frame: int64[m]."""
    return np.maximum(np.searchsorted(times, when, side="left") - 1, 0).astype(np.int64)


def nearest(times: I64, when: I64) -> I64:
    """Return the frames nearest to `when`, the earlier of two equally near: int64[m]."""
    right = np.clip(np.searchsorted(times, when), 1, len(times) - 1)
    left = right - 1
    return np.where(when - times[left] <= times[right] - when, left, right).astype(np.int64)
