"""Windows of frames that may contain a dissolve, and their measurements."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from promptreel.media.shots.arrays import F32, I64, Bool
from promptreel.media.shots.distances import hellinger, light_share
from promptreel.media.shots.features import FrameFeatures
from promptreel.media.shots.settings import ShotSettings
from promptreel.media.shots.times import MIN_RAMP_US, first_after, last_before, nearest
from promptreel.media.shots.transitions import Transition

_RETURN_SAMPLES = 8  # frames compared on each side: a background that returns stays for a while


@dataclass(frozen=True, slots=True)
class Windows:
    """Measurements of `m` windows that may contain a dissolve, each an array over m."""

    start_us: I64
    end_us: I64
    floor_us: I64
    """End of the transition before."""
    ceiling_us: I64
    """Start of the transition after."""
    old: I64
    """Frame at the start."""
    new: I64
    """Frame at the end."""
    distance: F32
    """Root-mean-square grid distance of both frames, 0..1."""
    full_distance: F32
    """`distance` from which a dissolve counts in full."""
    shares: F32
    """float32[m, 3], share of the new picture after a quarter, half and three quarters of the window."""
    residual: F32
    """Deviation from a linear blend at these three points, as a share of `distance`: their mean."""
    side: F32
    """Movement within half a window before plus after, as a share of `distance`."""
    colour_side: F32
    """The same for the colour histogram, at most 1.5."""
    colour_distance: F32
    """Hellinger distance of the histograms of both ends, 0..1."""


@dataclass(frozen=True, slots=True)
class _Candidates:
    """`m` windows of one length that overlap no other transition, each an array over m."""

    centre_us: I64
    floor_us: I64
    """End of the transition before."""
    ceiling_us: I64
    """Start of the transition after."""
    old: I64
    """Frame at the start."""
    new: I64
    """Frame at the end."""

    def select(self, mask: Bool) -> _Candidates:
        """Return the windows where bool[m] is true."""
        return _Candidates(*(getattr(self, column.name)[mask] for column in fields(self)))


def measure_windows(
    features: FrameFeatures,
    first: int,
    last: int,
    length_us: int,
    blocked: list[Transition],
    settings: ShotSettings,
) -> Windows | None:
    """Measure the windows of one length that are centred on the frames [first, last), overlap no `blocked`
    transition and have ends far enough apart; None without such windows."""
    windows = _clear_windows(features.times_us, first, last, length_us, blocked)
    if not len(windows.centre_us):
        return None
    distance = rms(vector(features, windows.new) - vector(features, windows.old))
    full = settings.dissolve_distance * light_share(
        np.maximum(features.brightness[windows.old], features.brightness[windows.new]), settings
    )
    far = distance >= full / 2
    if not far.any():
        return None
    windows, distance, full = windows.select(far), distance[far], full[far]
    ends = vector(features, windows.old), vector(features, windows.new)
    shares, residual = _blend(features, windows, ends, length_us // 4)
    side, colour_side = _movement_outside(features, windows, ends, length_us // 2)
    colour = hellinger(features, windows.old, windows.new)
    return Windows(
        windows.centre_us - length_us // 2,
        windows.centre_us + length_us // 2,
        windows.floor_us,
        windows.ceiling_us,
        windows.old,
        windows.new,
        distance,
        full,
        shares,
        residual,
        side / distance,
        np.minimum(colour_side / np.maximum(colour, 1e-3), 1.5),
        colour,
    )


def _clear_windows(times: I64, first: int, last: int, length_us: int, blocked: list[Transition]) -> _Candidates:
    """Return the windows centred on the frames [first, last) that overlap no `blocked` transition."""
    centre, half = times[first:last], length_us // 2
    bounds = sorted((b.start_us, b.end_us) for b in blocked)
    starts = np.array([int(times[0]), *(b[0] for b in bounds), int(times[-1])], dtype=np.int64)
    ends = np.array([int(times[0]), *(b[1] for b in bounds), int(times[-1])], dtype=np.int64)
    gap = np.clip(np.searchsorted(ends, centre, side="right"), 1, len(ends) - 1)
    floor, ceiling = ends[gap - 1], starts[gap]
    room = _room_us(half)
    clear = (centre - half - room >= floor) & (centre + half + room < ceiling)
    centre, floor, ceiling = centre[clear], floor[clear], ceiling[clear]
    old, new = first_after(times, centre - half - 1), nearest(times, centre + half)
    return _Candidates(centre, floor, ceiling, old, new)


def _room_us(half: int) -> int:
    """Return the minimum time on each side of a window in which movement outside is measured."""
    return min(half, MIN_RAMP_US)


def _blend(features: FrameFeatures, windows: _Candidates, ends: tuple[F32, F32], quarter: int) -> tuple[F32, F32]:
    """Return `shares` and `residual` of the windows."""
    one, two = ends
    span = two - one
    power = np.einsum("ij,ij->i", span, span)
    shares, rests = [], []
    for offset in (-quarter, 0, quarter):
        frame = vector(features, nearest(features.times_us, windows.centre_us + offset)) - one
        share = np.einsum("ij,ij->i", frame, span) / power
        rest = frame - share[:, None] * span
        shares.append(share)
        rests.append(np.sqrt(np.einsum("ij,ij->i", rest, rest) / power))
    return np.stack(shares, axis=1), np.mean(rests, axis=0, dtype=np.float32)


def _movement_outside(
    features: FrameFeatures, windows: _Candidates, ends: tuple[F32, F32], half: int
) -> tuple[F32, F32]:
    """Return the movement of layout and of colours within half a window before plus after."""
    times, old, new = features.times_us, windows.old, windows.new
    first = first_after(times, np.maximum(windows.centre_us - 2 * half, windows.floor_us) - 1)
    last = last_before(times, np.minimum(windows.centre_us + 2 * half, windows.ceiling_us))
    side, colour_side = np.zeros(len(old), np.float32), np.zeros(len(old), np.float32)
    for inner, outer, end in ((old, np.minimum(first, old), ends[0]), (new, np.maximum(last, new), ends[1])):
        # Extrapolate to half a window if another transition is nearer.
        measured = np.abs(times[inner] - times[outer])
        stretch = (half / np.maximum(measured, _room_us(half))).astype(np.float32)
        side += rms(vector(features, outer) - end) * stretch
        colour_side += hellinger(features, inner, outer) * stretch
    return side, colour_side


def nearest_return(features: FrameFeatures, windows: Windows, at: I64, reach_us: int) -> F32:
    """Return the least distance between a frame up to `reach_us` before the windows `at` and one after them.

    float32[m], as a share of the distance of their ends. Other transitions bound the reach.
    """
    if not len(at):
        return np.zeros(0, np.float32)
    times = features.times_us
    sides: list[list[F32]] = [[], []]
    for number in range(_RETURN_SAMPLES + 1):
        away = reach_us * number // _RETURN_SAMPLES
        earlier = first_after(times, np.maximum(windows.start_us[at] - away, windows.floor_us[at]) - 1)
        later = last_before(times, np.minimum(windows.end_us[at] + away, windows.ceiling_us[at]))
        sides[0].append(vector(features, np.minimum(earlier, windows.old[at])))
        sides[1].append(vector(features, np.maximum(later, windows.new[at])))
    best = np.full(len(at), np.inf, np.float32)
    for before in sides[0]:
        for after in sides[1]:
            best = np.minimum(best, rms(after - before))
    return np.asarray(best / windows.distance[at], dtype=np.float32)


def vector(features: FrameFeatures, frames: I64) -> F32:
    """Return the layout of light and colour, float32[m, 168], about 0..1. It is linear in the pixels, so a blend
    stays a blend."""
    rows = np.concatenate([features.grid[frames], features.chroma[frames]], axis=1).astype(np.float32)
    return rows / np.float32(255)


def rms(rows: F32) -> F32:
    """Return the root mean square of each row."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows) / rows.shape[1]), dtype=np.float32)
