"""Shot detection on frames made by numpy: every boundary is known because the test put it there."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from promptreel.media.shots import (
    FRAME_HEIGHT,
    FRAME_WIDTH,
    FeatureBuilder,
    FrameFeatures,
    ShotSettings,
    Transition,
    arrays,
    detect_transitions,
)

Frames = NDArray[np.uint8]
STEP_US = 40_000  # 25 frames a second


def picture(seed: int, width: int = FRAME_WIDTH) -> Frames:
    """A smooth random picture, uint8[36, width, 3]."""
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
    """`count` frames strictly between two pictures."""
    share = (np.arange(1, count + 1) / (count + 1))[:, None, None, None]
    return (old * (1 - share) + new * share).astype(np.uint8)


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


def test_cut_is_at_the_first_new_frame() -> None:
    (cut,) = detect(hold(A, 30), hold(B, 30))
    assert (cut.kind, cut.start_us, cut.end_us, cut.at_us) == (
        "cut",
        30 * STEP_US,
        30 * STEP_US,
        30 * STEP_US,
    )
    assert 0 < cut.score <= 1


def test_cuts_at_varying_rate_keep_their_exact_times() -> None:
    gaps = np.random.default_rng(0).integers(33_000, 170_000, 90)
    times = np.cumsum(gaps).astype(np.int64)
    found = detect(hold(A, 30), hold(B, 30), hold(C, 30), times_us=times)
    assert [(t.kind, t.at_us) for t in found] == [("cut", times[30]), ("cut", times[60])]


@pytest.mark.parametrize("step_us", [16_667, 40_000, 100_000])
def test_cuts_do_not_depend_on_the_frame_rate(step_us: int) -> None:
    count = 2_000_000 // step_us
    times = np.arange(3 * count, dtype=np.int64) * step_us
    found = detect(hold(A, count), hold(B, count), hold(C, count), times_us=times)
    assert [t.at_us for t in found] == [times[count], times[2 * count]]


@pytest.mark.parametrize("length", [8, 15, 30, 45])
def test_dissolve_spans_its_blend(length: int) -> None:
    (dissolve,) = detect(hold(A, 60), blend(A, B, length), hold(B, 60))
    assert dissolve.kind == "dissolve"
    assert dissolve.start_us == pytest.approx(59 * STEP_US, abs=120_000)
    assert dissolve.end_us == pytest.approx((60 + length) * STEP_US, abs=120_000)
    assert dissolve.at_us == pytest.approx((59 + 60 + length) * STEP_US / 2, abs=60_000)


@pytest.mark.parametrize("blank", [BLACK, WHITE], ids=["black", "white"])
def test_fade_out_and_in_is_one_transition_at_the_blank(blank: Frames) -> None:
    (fade,) = detect(hold(A, 50), blend(A, blank, 12), hold(blank, 6), blend(blank, B, 12), hold(B, 50))
    assert fade.kind == "fade"
    assert fade.at_us == pytest.approx((62 + 3) * STEP_US, abs=STEP_US)
    assert fade.start_us == pytest.approx(49 * STEP_US, abs=4 * STEP_US)
    assert fade.end_us == pytest.approx(80 * STEP_US, abs=4 * STEP_US)


def test_black_between_two_cuts_is_one_transition() -> None:
    found = detect(hold(A, 50), hold(BLACK, 25), hold(B, 50))
    assert kinds(found) == ["fade"]
    assert (found[0].start_us, found[0].end_us) == (49 * STEP_US, 75 * STEP_US)


def test_fades_at_both_ends_of_a_film_bound_no_shot() -> None:
    assert detect(hold(BLACK, 10), blend(BLACK, A, 25), hold(A, 50), blend(A, BLACK, 25), hold(BLACK, 10)) == ()


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("flash", [WHITE, np.clip(A * 1.5 + 90, 0, 255).astype(np.uint8)], ids=["white", "bright"])
def test_flashes_are_ignored(flash: Frames, length: int) -> None:
    assert detect(hold(A, 40), hold(flash, length), hold(A, 40)) == ()


def test_cut_right_after_a_flash_is_found() -> None:
    bright = np.clip(A * 1.5 + 90, 0, 255).astype(np.uint8)
    found = detect(hold(A, 40), hold(bright, 2), hold(A, 1), hold(B, 40))
    assert [(t.kind, t.at_us) for t in found] == [("cut", 43 * STEP_US)]


@pytest.mark.parametrize("speed", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_pans_are_ignored(seed: int, speed: int) -> None:
    wide = picture(seed, FRAME_WIDTH + 96 * speed)
    assert detect(np.stack([wide[:, x * speed : x * speed + FRAME_WIDTH] for x in range(96)])) == ()


def test_shake_is_ignored() -> None:
    wide = picture(5, FRAME_WIDTH + 8)
    jitter = np.random.default_rng(1).integers(0, 8, 100)
    assert detect(np.stack([wide[:, x : x + FRAME_WIDTH] for x in jitter])) == ()


def test_a_large_object_that_crosses_is_ignored() -> None:
    frames = hold(A, 90).copy()
    for number in range(90):
        left = number * 2 - 50
        frames[number, 6:, max(left, 0) : max(left + 28, 0)] = (200, 40, 60)
    assert detect(frames) == ()


@pytest.mark.parametrize("gain", [0.4, 1.5])
def test_brightness_ramps_are_ignored(gain: float) -> None:
    ramp = np.clip(A * np.linspace(1, gain, 40)[:, None, None, None], 0, 255).astype(np.uint8)
    assert detect(hold(A, 40), ramp, hold(ramp[-1], 40)) == ()


def test_a_title_that_appears_is_ignored() -> None:
    titled = A.copy()
    titled[14:20, 16:48] = 255
    assert detect(hold(A, 50), blend(A, titled, 15), hold(titled, 50)) == ()


def test_single_shot_empty_and_single_frame_give_nothing() -> None:
    grain = np.random.default_rng(2).normal(0, 5, (80, *A.shape))
    assert detect(np.clip(A + grain, 0, 255).astype(np.uint8)) == ()
    assert detect_transitions(FeatureBuilder().build()) == ()
    assert detect(hold(A, 1)) == ()
    assert detect(hold(A, 2), times_us=np.zeros(2, np.int64)) == ()


def test_everything_in_one_film_comes_in_order() -> None:
    found = detect(
        hold(A, 50),
        hold(B, 50),
        blend(B, C, 20),
        hold(C, 50),
        blend(C, BLACK, 12),
        blend(BLACK, A, 12),
        hold(A, 50),
        hold(C, 50),
    )
    assert kinds(found) == ["cut", "dissolve", "fade", "cut"]
    assert list(found) == sorted(found, key=lambda t: t.at_us)


MIXED = np.concatenate([hold(A, 20), blend(A, B, 15), hold(B, 20), hold(C, 20)])
WHOLE = features_of(MIXED)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(MIXED)), max_size=12))
def test_feeding_in_pieces_equals_feeding_at_once(borders: list[int]) -> None:
    builder, times = FeatureBuilder(), even_times(len(MIXED))
    edges = [0, *sorted(borders), len(MIXED)]
    for first, last in pairwise(edges):
        builder.add(MIXED[first:last], times[first:last])
    pieces = builder.build()
    for name in FrameFeatures.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(pieces, name), getattr(WHOLE, name), err_msg=name)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["cut", "dissolve"]), st.integers(30, 60)), min_size=1, max_size=4))
def test_any_plan_of_calm_shots_is_read_back(plan: list[tuple[str, int]]) -> None:
    parts, at, expected = [hold(A, 60)], 60, []
    for number, (kind, length) in enumerate(plan):
        old, new = (A, B, C)[number % 3], (A, B, C)[(number + 1) % 3]
        if kind == "dissolve":
            parts.append(blend(old, new, 16))
            expected.append((kind, (at + 7.5) * STEP_US))
            at += 16
        else:
            expected.append((kind, at * STEP_US))
        parts.append(hold(new, length))
        at += length
    found = detect(*parts)
    assert kinds(found) == [kind for kind, _ in expected]
    for transition, (kind, when) in zip(found, expected, strict=True):
        assert transition.at_us == pytest.approx(when, abs=0 if kind == "cut" else 100_000)


def test_result_does_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    film = np.concatenate(
        [
            hold(A, 47),
            hold(B, 50),
            blend(B, C, 20),
            hold(C, 30),
            blend(C, BLACK, 9),
            blend(BLACK, A, 9),
            hold(A, 25),
        ]
    )
    features = features_of(np.concatenate([film] * 3))
    whole = detect_transitions(features)
    assert len(whole) == 9  # three in each film; the films join without a change
    for chunk in (1, 7, 64):
        monkeypatch.setattr(arrays, "CHUNK", chunk)
        assert detect_transitions(features) == whole


def test_long_film_across_the_chunk_border() -> None:
    count = arrays.CHUNK
    (cut, dissolve) = detect(hold(A, count), hold(B, count - 70), blend(B, C, 20), hold(C, 100))
    assert (cut.kind, cut.at_us) == ("cut", count * STEP_US)
    assert dissolve.kind == "dissolve"
    assert dissolve.start_us < 2 * count * STEP_US


def test_memory_of_features_is_bounded() -> None:
    features = features_of(hold(A, 500))
    assert features.nbytes / len(features) <= 300  # 432,000 frames, two hours at 60 a second, stay below 130 MB


def test_measures_are_those_of_the_pixels() -> None:
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
        ("persist_us", 0),
        ("persist_us", 0.25),
        ("min_gap_us", -1),
        ("dissolve_windows_us", ()),
        ("dissolve_windows_us", (800_000, 500_000)),
        ("dissolve_score", 1.5),
    ],
)
def test_settings_refuse_nonsense_and_name_the_field(field: str, value: object) -> None:
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
def test_builder_refuses_frames_it_cannot_read(frames: Frames, times: list[int]) -> None:
    with pytest.raises(ValueError, match=r"frames|times_us"):
        FeatureBuilder().add(frames, np.array(times))


def test_builder_refuses_time_that_falls_between_pieces() -> None:
    builder = FeatureBuilder()
    builder.add(hold(A, 2), even_times(2))
    with pytest.raises(ValueError, match="presentation order"):
        builder.add(hold(A, 1), even_times(1))
