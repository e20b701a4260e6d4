"""Features of frames, and the validation of frames and settings."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptreel.media.shots import FRAME_HEIGHT, FRAME_WIDTH, FeatureBuilder, FrameFeatures, ShotSettings
from tests.media.shot_frames import A, B, C, Frames, blend, even_times, features_of, hold

MIXED = np.concatenate([hold(A, 20), blend(A, B, 15), hold(B, 20), hold(C, 20)])
COMPLETE = features_of(MIXED)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(MIXED)), max_size=12))
def test_features_do_not_depend_on_the_batches(borders: list[int]) -> None:
    builder, times = FeatureBuilder(), even_times(len(MIXED))
    edges = [0, *sorted(borders), len(MIXED)]
    for first, last in pairwise(edges):
        builder.add(MIXED[first:last], times[first:last])
    pieces = builder.build()
    for name in FrameFeatures.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(pieces, name), getattr(COMPLETE, name), err_msg=name)


def test_memory_of_features_is_bounded() -> None:
    features = features_of(hold(A, 500))
    assert features.nbytes / len(features) <= 300  # two hours at 60 frames per second stay below 130 MB


def test_features_match_the_pixels() -> None:
    grey = np.full((2, FRAME_HEIGHT, FRAME_WIDTH, 3), 100, np.uint8)
    grey[1] = 151
    grey[1, :, :32] = 49
    features = features_of(grey)
    assert features.brightness == pytest.approx([100 / 255, 100 / 255], abs=0.002)
    assert features.contrast == pytest.approx([0, 51 / 255], abs=0.003)
    assert features.motion == pytest.approx([0, 51 / 255], abs=0.002)
    assert features.mean_rgb.tolist() == [[100] * 3] * 2
    assert (np.abs(features.chroma.astype(int) - 128) <= 1).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cut_distance", 0.0),
        ("cut_distance", float("nan")),
        ("cut_ratio", 0.5),
        ("dark_ratio", 0.5),
        ("dark_distance", 0.0),
        ("return_us", -1),
        ("persist_us", 0),
        ("persist_us", 0.25),
        ("min_gap_us", -1),
        ("dissolve_windows_us", ()),
        ("dissolve_windows_us", (800_000, 500_000)),
        ("dissolve_score", 1.5),
    ],
)
def test_invalid_setting_is_rejected_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"ShotSettings.{field}"):
        replace(ShotSettings(), **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frames", "times"),
    [
        (np.zeros((2, 10, 10, 3), np.uint8), [0, 1]),
        (np.zeros((2, FRAME_HEIGHT, FRAME_WIDTH, 3), np.float32), [0, 1]),
        (np.zeros((2, FRAME_HEIGHT, FRAME_WIDTH, 3), np.uint8), [0]),
        (np.zeros((2, FRAME_HEIGHT, FRAME_WIDTH, 3), np.uint8), [0.0, 0.04]),
        (np.zeros((2, FRAME_HEIGHT, FRAME_WIDTH, 3), np.uint8), [1, 0]),
    ],
)
def test_builder_rejects_invalid_frames_and_times(frames: Frames, times: list[int]) -> None:
    with pytest.raises(ValueError, match=r"frames|times_us"):
        FeatureBuilder().add(frames, np.array(times))


def test_builder_rejects_times_that_decrease_between_batches() -> None:
    builder = FeatureBuilder()
    builder.add(hold(A, 2), even_times(2))
    with pytest.raises(ValueError, match="presentation order"):
        builder.add(hold(A, 1), even_times(1))
