"""Timeline measurements, compared with independent computations on drawn frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from promptreel.media.shots import FRAME_HEIGHT, FRAME_WIDTH, FeatureBuilder
from promptreel.media.timeline import (
    BIN_US,
    ColourCounter,
    Timeline,
    build_timeline,
    load_timeline,
    save_timeline,
)
from promptreel.schemas.media import TimeSpan

Frames = NDArray[np.uint8]


def grey(*levels: int) -> Frames:
    """Return one frame of each level, 0..255."""
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), FRAME_HEIGHT, FRAME_WIDTH, 3))


def timeline_of(frames: Frames, times_us: list[int], duration_us: int) -> Timeline:
    features, colours = FeatureBuilder(), ColourCounter()
    times = np.array(times_us, np.int64)
    for first in range(0, len(frames), 3):  # block boundaries must not matter
        block = slice(first, first + 3)
        features.add(np.ascontiguousarray(frames[block]), times[block])
        colours.add(frames[block], times[block])
    return build_timeline(features.build(), colours, np.zeros(5, np.float32), duration_us)


def test_bins_hold_the_mean_brightness_of_their_frames() -> None:
    built = timeline_of(grey(0, 100, 200, 50), [0, 50_000, 120_000, 230_000], 300_000)
    np.testing.assert_allclose(built.brightness * 255, [50, 200, 50], atol=1)


def test_bin_without_a_frame_repeats_the_previous_one() -> None:
    built = timeline_of(grey(40, 240), [0, 500_000], 800_000)
    np.testing.assert_allclose(built.brightness * 255, [40] * 5 + [240] * 3, atol=1)
    assert (built.colours.argmax(axis=1) == [0] * 5 + [63] * 3).all()


def test_first_bins_before_any_frame_show_the_first_frame() -> None:
    built = timeline_of(grey(200, 200), [350_000, 400_000], 500_000)
    np.testing.assert_allclose(built.brightness * 255, [200] * 5, atol=1)
    assert built.colours.shape == (5, 64)


def test_motion_is_the_change_per_second() -> None:
    built = timeline_of(grey(0, 51, 0, 0), [0, 40_000, 80_000, 120_000], 200_000)
    np.testing.assert_allclose(built.motion, [2 * 51 / 255 * 10, 0], atol=0.05)


def test_colours_are_shares_of_the_picture() -> None:
    frame = grey(0).copy()
    frame[0, :, : FRAME_WIDTH // 4] = (255, 0, 0)
    (shares,) = timeline_of(frame, [0], 100_000).colours
    assert (shares[0], shares[0b110000]) == (round(0.75 * 255), round(0.25 * 255))
    assert shares.sum() == shares[0] + shares[0b110000]


def test_sound_has_only_loudness() -> None:
    built = build_timeline(FeatureBuilder().build(), ColourCounter(), np.array([-20, -30], np.float32), 200_000)
    assert (len(built.brightness), len(built.motion), built.colours.shape) == (0, 0, (0, 64))
    assert built.loudness_dbfs.tolist() == [-20, -30]


@pytest.mark.parametrize("duration_us", [0, 1, 99_999, 100_000, 100_001, 1_000_000])
def test_bins_cover_the_complete_item(duration_us: int) -> None:
    built = timeline_of(grey(10), [0], duration_us)
    count = max(1, -(-duration_us // BIN_US))
    assert len(built.brightness) == len(built.motion) == len(built.colours) == count


@pytest.mark.parametrize(
    ("span", "bins"),
    [((0, 100_000), [0]), ((0, 100_001), [0, 1]), ((150_000, 420_000), [1, 2, 3, 4]), ((990_000, 5_000_000), [9])],
)
def test_span_touches_its_bins(span: tuple[int, int], bins: list[int]) -> None:
    built = timeline_of(grey(10), [0], 1_000_000)
    assert list(range(10))[built.picture_bins(TimeSpan(*span))] == bins


def test_span_beyond_the_end_touches_the_last_bin() -> None:
    built = timeline_of(grey(10), [0], 1_000_000)
    assert list(range(10))[built.picture_bins(TimeSpan(3_000_000, 4_000_000))] == [9]
    assert list(range(5))[built.sound_bins(TimeSpan(900_000, 1_000_000))] == [4]


def test_stored_timeline_is_loaded_unchanged(tmp_path: Path) -> None:
    built = timeline_of(grey(0, 90, 180), [0, 100_000, 200_000], 300_000)
    save_timeline(built, tmp_path / "timeline.npz")
    read = load_timeline(tmp_path / "timeline.npz")
    for name in ("brightness", "motion", "colours", "loudness_dbfs"):
        np.testing.assert_array_equal(getattr(read, name), getattr(built, name))
        assert getattr(read, name).dtype == getattr(built, name).dtype
