"""The selection of frames of a segment, and the detection of repeated pictures."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from promptreel.providers.pictures import (
    MIN_SHARPNESS_SHARE,
    PictureSummary,
    choose_frames,
    find_repeats,
    is_same_picture,
    summarize_picture,
)
from promptreel.schemas.media import SampledFrame, TimeSpan

SECOND = 1_000_000


def scene(seed, size=(640, 360)):
    """Create a picture with coarse shapes and fine texture, like a photograph."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(20, 235, (5, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    fine = rng.normal(0, 12, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(coarse) + fine, 0, 255).astype(np.uint8))


def summarize(picture, quality=90):
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=quality)
    return summarize_picture(jpeg)


def faded(picture, share):
    return Image.fromarray((np.asarray(picture) * share).astype(np.uint8))


def frames(count, spacing_us=SECOND):
    return tuple(SampledFrame(n * spacing_us, f"{n}.jpg") for n in range(count))


def summaries(sharpness):
    return [PictureSummary(value, n, (0, 0, 0)) for n, value in enumerate(sharpness)]


@pytest.mark.parametrize("seed", range(4))
def test_blur_reduces_sharpness(seed):
    picture = scene(seed)
    found = [summarize(picture.filter(ImageFilter.GaussianBlur(radius))).sharpness for radius in (0, 3, 6, 12)]
    assert found == sorted(found, reverse=True)
    assert found[1] < MIN_SHARPNESS_SHARE * found[0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("quality", [30, 60, 95])
def test_picture_of_another_quality_is_the_same(seed, quality):
    assert is_same_picture(summarize(scene(seed)), summarize(scene(seed), quality))


@pytest.mark.parametrize("seed", range(6))
def test_picture_of_another_size_is_the_same(seed):
    picture = scene(seed).filter(ImageFilter.GaussianBlur(2))
    assert is_same_picture(summarize(picture), summarize(picture.resize((427, 240), Image.Resampling.LANCZOS)))


def test_different_pictures_are_new():
    found = [summarize(scene(seed)) for seed in range(30)]
    assert find_repeats(found) == (None,) * 30


def test_plain_pictures_of_two_colours_differ():
    plain = [summarize(Image.new("RGB", (320, 180), colour)) for colour in ("red", "red", "blue", "black", "white")]
    assert find_repeats(plain) == (None, 0, None, None, None)


def test_slow_fade_gives_new_pictures():
    steps = [summarize(faded(scene(1), share)) for share in np.linspace(1, 0, 60)]
    found = find_repeats(steps)
    assert found[1] == 0  # a single step is too small to detect
    assert sum(earlier is None for earlier in found) >= 5


def test_slow_pan_is_compared_with_the_last_new_picture():
    wide = scene(3, (1280, 360))
    found = find_repeats([summarize(wide.crop((x, 0, x + 640, 360))) for x in range(0, 640, 8)])
    assert sum(earlier is None for earlier in found) >= 4
    assert all(earlier is None or found[earlier] is None for earlier in found)


def test_picture_that_returns_is_new():
    one, other = summarize(scene(1)), summarize(scene(2))
    assert find_repeats([one, one, other, one]) == (None, 0, None, None)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=40), st.integers(1, 16))
def test_chosen_frames_are_ordered_with_the_first_sharp_one(sharpness, count):
    items = frames(len(sharpness))
    span = TimeSpan(0, len(items) * SECOND)
    chosen = choose_frames(items, summaries(sharpness), span, count)
    assert len(chosen) == min(count, len(items))
    assert list(chosen) == sorted(set(chosen), key=lambda frame: frame.time_us)
    first = next(n for n, value in enumerate(sharpness) if value >= 0.5 * max(sharpness))
    assert items[first] in chosen
    if count > 1:
        middle = span.duration_us // 2
        assert min(abs(frame.time_us - middle) for frame in chosen) == min(abs(f.time_us - middle) for f in items)


def test_blurred_first_frame_is_skipped():
    chosen = choose_frames(frames(9), summaries([1, 2, 100, 100, 100, 100, 100, 100, 100]), TimeSpan(0, 9 * SECOND), 1)
    assert chosen == (frames(9)[2],)


def test_more_frames_are_spread_over_the_segment():
    chosen = choose_frames(frames(100), summaries([10] * 100), TimeSpan(0, 100 * SECOND), 6)
    times = [frame.time_us / SECOND for frame in chosen]
    assert {0, 50} < set(times)
    assert max(later - earlier for earlier, later in itertools.pairwise([*times, 100])) <= 25


def looks(*pictures):
    """Return summaries of equally sharp frames that differ where these numbers differ."""
    return [PictureSummary(100, 0, (20 * number, 0, 0)) for number in pictures]


def times_s(chosen):
    return [frame.time_us / SECOND for frame in chosen]


def test_each_shot_has_its_first_sharp_frame():
    summarized = [replace(look, sharpness=5 if n == 10 else 100) for n, look in enumerate(looks(*[1] * 10, *[2] * 20))]
    chosen = choose_frames(frames(30), summarized, TimeSpan(0, 30 * SECOND), 2, cuts_us=(10 * SECOND,))
    assert times_s(chosen) == [0, 11]


def test_longest_shots_come_first_if_shots_exceed_the_count():
    cuts = [5 * SECOND, 7 * SECOND, 20 * SECOND]
    chosen = choose_frames(frames(30), looks(*range(30)), TimeSpan(0, 30 * SECOND), 2, cuts_us=cuts)
    assert times_s(chosen) == [7, 20]


def test_change_within_a_shot_is_chosen_before_repeats():
    chosen = choose_frames(frames(30), looks(*[1] * 23, 9, *[1] * 6), TimeSpan(0, 30 * SECOND), 2, cuts_us=())
    assert times_s(chosen) == [0, 23]


def test_blurred_change_is_chosen_before_sharp_repeats():
    summarized = looks(*[1] * 20, 5, *[1] * 9)
    summarized[20] = replace(summarized[20], sharpness=10)
    chosen = choose_frames(frames(30), summarized, TimeSpan(0, 30 * SECOND), 2, cuts_us=())
    assert times_s(chosen) == [0, 20]


def test_static_segment_gets_evenly_spaced_frames():
    chosen = choose_frames(frames(29), looks(*[1] * 29), TimeSpan(0, 29 * SECOND), 3, cuts_us=())
    assert times_s(chosen) == [0, 14, 28]


def test_cuts_outside_the_segment_are_ignored():
    span = TimeSpan(10 * SECOND, 20 * SECOND)
    items = frames(30)[10:20]
    chosen = choose_frames(
        items, looks(*[1] * 10), span, 1, cuts_us=(2 * SECOND, 10 * SECOND, 20 * SECOND, 25 * SECOND)
    )
    assert times_s(chosen) == [10]


@given(st.lists(st.tuples(st.integers(0, 12), st.floats(0, 1000)), min_size=1, max_size=30), st.data())
def test_choice_by_content_is_full_ordered_and_repeatable(pictures, data):
    items = frames(len(pictures))
    summarized = [replace(looks(number)[0], sharpness=sharpness) for number, sharpness in pictures]
    count = data.draw(st.integers(1, 12))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(items) * SECOND))))
    span = TimeSpan(0, len(items) * SECOND)
    chosen = choose_frames(items, summarized, span, count, cuts_us=cuts)
    assert len(chosen) == min(count, len(items))
    assert list(chosen) == sorted(set(chosen), key=lambda frame: frame.time_us)
    assert chosen == choose_frames(items, summarized, span, count, cuts_us=cuts)


def test_segment_without_frames_gives_none():
    assert choose_frames((), (), TimeSpan(0, SECOND), 3) == ()
    assert choose_frames((), (), TimeSpan(0, SECOND), 3, cuts_us=()) == ()


def test_file_that_is_not_a_picture_is_an_error(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"no picture")
    with pytest.raises(OSError, match="cannot identify"):
        summarize_picture(tmp_path / "x.jpg")
