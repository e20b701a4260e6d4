"""Shot detection on frames generated with numpy, so every boundary is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from promptreel.media.shots import FRAME_HEIGHT, FRAME_WIDTH, FeatureBuilder, arrays, detect_transitions
from tests.media.shot_frames import (
    BLACK,
    STEP_US,
    WHITE,
    A,
    B,
    C,
    Frames,
    blend,
    dark,
    detect,
    features_of,
    hold,
    kinds,
    picture,
)


def test_cut_is_at_the_first_new_frame() -> None:
    (cut,) = detect(hold(A, 30), hold(B, 30))
    assert (cut.kind, cut.start_us, cut.end_us, cut.at_us) == (
        "cut",
        30 * STEP_US,
        30 * STEP_US,
        30 * STEP_US,
    )
    assert 0 < cut.score <= 1


def test_cut_times_are_exact_at_a_varying_rate() -> None:
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
def test_fade_through_a_blank_is_one_transition(blank: Frames) -> None:
    (fade,) = detect(hold(A, 50), blend(A, blank, 12), hold(blank, 6), blend(blank, B, 12), hold(B, 50))
    assert fade.kind == "fade"
    assert fade.at_us == pytest.approx((62 + 3) * STEP_US, abs=STEP_US)
    assert fade.start_us == pytest.approx(49 * STEP_US, abs=4 * STEP_US)
    assert fade.end_us == pytest.approx(80 * STEP_US, abs=4 * STEP_US)


def test_black_between_two_cuts_is_one_transition() -> None:
    found = detect(hold(A, 50), hold(BLACK, 25), hold(B, 50))
    assert kinds(found) == ["fade"]
    assert (found[0].start_us, found[0].end_us) == (49 * STEP_US, 75 * STEP_US)


def test_black_too_short_for_a_shot_is_not_bounded() -> None:
    assert detect(hold(BLACK, 3), blend(BLACK, A, 25), hold(A, 50), blend(A, BLACK, 25), hold(BLACK, 3)) == ()
    assert detect(hold(BLACK, 4), hold(A, 50), hold(BLACK, 4)) == ()


@pytest.mark.parametrize("blank", [BLACK, WHITE, np.full_like(A, 14)], ids=["black", "white", "raised"])
def test_cuts_from_a_leader_and_to_a_tail(blank: Frames) -> None:
    found = detect(hold(blank, 30), hold(A, 50), hold(blank, 30))
    assert [(t.kind, t.at_us) for t in found] == [("cut", 30 * STEP_US), ("cut", 80 * STEP_US)]


def test_fades_from_a_leader_and_to_a_tail() -> None:
    found = detect(hold(BLACK, 30), blend(BLACK, A, 20), hold(A, 50), blend(A, BLACK, 20), hold(BLACK, 30))
    assert kinds(found) == ["fade", "fade"]
    assert [t.at_us for t in found] == pytest.approx([30 * STEP_US, 120 * STEP_US], abs=2 * STEP_US)
    assert found[0].end_us == pytest.approx(50 * STEP_US, abs=4 * STEP_US)
    assert found[1].start_us == pytest.approx(99 * STEP_US, abs=4 * STEP_US)


def test_leader_and_tail_of_a_dark_shot() -> None:
    found = detect(hold(BLACK, 30), hold(dark(A, 9), 50), hold(BLACK, 30))
    assert [(t.kind, t.at_us) for t in found] == [("cut", 30 * STEP_US), ("cut", 80 * STEP_US)]


@pytest.mark.parametrize("level", [6, 12, 25])
def test_hard_cuts_in_the_dark_are_found(level: float) -> None:
    grain = np.random.default_rng(4).normal(0, 1, (120, *A.shape))
    film = np.concatenate([hold(dark(picture, level), 40) for picture in (A, B, C)])
    found = detect(np.clip(film + grain, 0, 255).astype(np.uint8))
    assert [(t.kind, t.at_us) for t in found] == [("cut", 40 * STEP_US), ("cut", 80 * STEP_US)]


def test_dark_shot_between_cuts_is_no_fade() -> None:
    found = detect(hold(A, 40), hold(dark(B, 8), 40), hold(C, 40))
    assert [(t.kind, t.at_us) for t in found] == [("cut", 40 * STEP_US), ("cut", 80 * STEP_US)]


def test_small_lamp_in_the_dark_is_ignored() -> None:
    lit = dark(A, 9).copy()
    lit[8:16, 20:32] = (120, 110, 80)
    assert detect(hold(dark(A, 9), 40), hold(lit, 40), hold(dark(A, 9), 40)) == ()


@pytest.mark.parametrize("dark_part", [0, 60])
def test_movement_in_the_dark_is_ignored(dark_part: int) -> None:
    wide = picture(7, FRAME_WIDTH + 120) // 14
    frames = np.stack([wide[:, x : x + FRAME_WIDTH] for x in [*range(dark_part), *range(dark_part, 120, 2)]])
    assert detect(frames) == ()


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


@pytest.mark.parametrize("edge", [1, 40], ids=["sharp", "soft"])
@pytest.mark.parametrize("frames_to_pass", [20, 40, 75])
def test_an_object_wider_than_the_picture_is_ignored(frames_to_pass: int, edge: int) -> None:
    width = 2 * FRAME_WIDTH
    cover = np.clip(np.minimum(np.arange(width) + 1, width - np.arange(width)) / edge, 0, 1)
    passing = np.zeros(2 * FRAME_WIDTH + width)
    passing[FRAME_WIDTH : FRAME_WIDTH + width] = cover
    frames = hold(A, 150).astype(float)
    for number in range(frames_to_pass):
        left = round(number / frames_to_pass * (FRAME_WIDTH + width))
        share = passing[left : left + FRAME_WIDTH][None, :, None]
        frames[40 + number] = A * (1 - share) + np.array([90, 70, 60]) * share
    assert detect(frames.astype(np.uint8)) == ()


def test_dissolves_there_and_back_are_found() -> None:
    found = detect(hold(A, 60), blend(A, B, 15), hold(B, 40), blend(B, A, 15), hold(A, 60))
    assert kinds(found) == ["dissolve", "dissolve"]


def lamp(levels: NDArray[np.float64]) -> Frames:
    """Return picture A under a warm lamp at the upper left at each of `levels`, 0..1."""
    y, x = np.mgrid[0:FRAME_HEIGHT, 0:FRAME_WIDTH] / FRAME_WIDTH
    lit = np.exp(-((x - 0.3) ** 2 + (y - 0.1) ** 2) / 0.5**2)[None, :, :, None] * np.array([1.0, 0.8, 0.5])
    return (A * (1 - lit * (1 - levels[:, None, None, None]))).astype(np.uint8)


@pytest.mark.parametrize("length", [8, 15, 30, 60])
def test_a_lamp_that_dims_is_ignored(length: int) -> None:
    assert detect(lamp(np.concatenate([np.ones(50), np.linspace(1, 0.15, length), np.full(50, 0.15)]))) == ()


@pytest.mark.parametrize("seed", range(3))
def test_a_flickering_lamp_is_ignored(seed: int) -> None:
    rng = np.random.default_rng(seed)
    jumps = np.repeat(rng.uniform(0.2, 1, 60), rng.integers(1, 6, 60))
    drift = np.interp(np.arange(200), np.arange(0, 220, 20), rng.uniform(0.15, 1, 11))
    assert detect(lamp(jumps)) == ()
    assert detect(lamp(drift)) == ()


def test_cut_and_dissolve_between_black_bars_are_found() -> None:
    shots = [still.copy() for still in (A, B, C)]
    for still in shots:
        still[:5], still[-5:] = 0, 0
    found = detect(hold(shots[0], 50), hold(shots[1], 50), blend(shots[1], shots[2], 16), hold(shots[2], 50))
    assert kinds(found) == ["cut", "dissolve"]


@pytest.mark.parametrize("gain", [0.4, 1.5])
def test_brightness_ramps_are_ignored(gain: float) -> None:
    ramp = np.clip(A * np.linspace(1, gain, 40)[:, None, None, None], 0, 255).astype(np.uint8)
    assert detect(hold(A, 40), ramp, hold(ramp[-1], 40)) == ()


def test_a_title_that_appears_is_ignored() -> None:
    titled = A.copy()
    titled[14:20, 16:48] = 255
    assert detect(hold(A, 50), blend(A, titled, 15), hold(titled, 50)) == ()


def test_single_shot_and_too_few_frames_have_no_transitions() -> None:
    grain = np.random.default_rng(2).normal(0, 5, (80, *A.shape))
    assert detect(np.clip(A + grain, 0, 255).astype(np.uint8)) == ()
    assert detect_transitions(FeatureBuilder().build()) == ()
    assert detect(hold(A, 1)) == ()
    assert detect(hold(A, 2), times_us=np.zeros(2, np.int64)) == ()


def test_transitions_of_all_kinds_are_in_order() -> None:
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


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["cut", "dissolve"]), st.integers(30, 60)), min_size=1, max_size=4))
def test_any_sequence_of_still_shots_is_detected(plan: list[tuple[str, int]]) -> None:
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
    complete = detect_transitions(features)
    assert len(complete) == 9  # three per film; the films join without a change
    for chunk in (1, 7, 64):
        monkeypatch.setattr(arrays, "CHUNK", chunk)
        assert detect_transitions(features) == complete


def test_transitions_at_the_chunk_border_are_found() -> None:
    count = arrays.CHUNK
    (cut, dissolve) = detect(hold(A, count), hold(B, count - 70), blend(B, C, 20), hold(C, 100))
    assert (cut.kind, cut.at_us) == ("cut", count * STEP_US)
    assert dissolve.kind == "dissolve"
    assert dissolve.start_us < 2 * count * STEP_US
