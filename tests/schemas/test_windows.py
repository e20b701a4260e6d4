"""Fixed windows with a hop, and the time range of an item."""

from itertools import pairwise

import pytest

from promptreel.schemas.errors import SettingsError
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.windows import fixed_windows

SECOND = 1_000_000


def windows_s(span, window, hop=None):
    """Return the windows in seconds."""
    first, last = (round(time * SECOND) for time in span)
    found = fixed_windows(TimeSpan(first, last), window * SECOND, (hop or window) * SECOND)
    return [(part.start_us / SECOND, part.end_us / SECOND) for part in found]


def fixed(window=10, hop=None, start=0, end=None):
    return SegmentationSettings("fixed", "fixed", window, window, hop_s=hop, start_s=start, end_s=end)


@pytest.mark.parametrize(
    ("span", "window", "hop", "expected"),
    [
        ((0, 30), 10, None, [(0, 10), (10, 20), (20, 30)]),
        ((0, 30.4), 10, 10, [(0, 10), (10, 20), (20, 30.4)]),
        ((0, 20), 10, 5, [(0, 10), (5, 15), (10, 20)]),
        ((0, 22), 10, 5, [(0, 10), (5, 15), (10, 20), (15, 22)]),
        ((0, 20.4), 10, 5, [(0, 10), (5, 15), (10, 20.4)]),
        ((7, 27), 10, 5, [(7, 17), (12, 22), (17, 27)]),
        ((0, 65), 10, 30, [(0, 10), (30, 40), (60, 65)]),
        ((0, 60.4), 10, 30, [(0, 10), (30, 40)]),
        ((0, 0.3), 10, 5, [(0, 0.3)]),
        ((0, 4), 10, 5, [(0, 4)]),
    ],
)
def test_windows_start_every_hop_and_end_with_the_span(span, window, hop, expected):
    assert windows_s(span, window, hop) == expected


@pytest.mark.parametrize("hop", [3, 5, 9, 10, 11, 25])
@pytest.mark.parametrize("length_ms", [*range(400, 41_000, 700), 30_499, 30_500])
def test_only_a_lone_window_is_shorter_than_half_a_second(hop, length_ms):
    found = fixed_windows(TimeSpan(0, length_ms * 1000), 10 * SECOND, hop * SECOND)
    assert len(found) == 1 or min(part.duration_us for part in found) >= SECOND // 2
    assert max(part.duration_us for part in found) < 10.5 * SECOND
    if hop <= 10:
        assert found[-1].end_us == length_ms * 1000
        assert all(one.end_us >= two.start_us for one, two in pairwise(found))


@pytest.mark.parametrize("hop", [None, 1, 4, 10, 13, 60])
@pytest.mark.parametrize("length_ms", [*range(600, 90_000, 1_370), 30_499, 30_500, 61_499, 61_500])
def test_counts_and_lengths_are_those_of_the_windows(hop, length_ms):
    settings, duration_us = fixed(hop=hop, start=0.1), length_ms * 1000
    windows = settings.windows("video", duration_us)
    assert settings.segment_bounds("video", duration_us) == (len(windows), len(windows))
    lengths = {}
    for window in windows:
        lengths[window.duration_us] = lengths.get(window.duration_us, 0) + 1
    assert settings.segment_lengths("video", duration_us, len(windows)) == lengths


def test_segment_bounds_know_hop_and_range():
    assert fixed(hop=5).segment_bounds("video", 20 * SECOND) == (3, 3)
    assert fixed(hop=30).segment_bounds("audio", 65 * SECOND) == (3, 3)
    assert fixed(start=20, end=40).segment_bounds("video", 60 * SECOND) == (2, 2)
    smart = SegmentationSettings(start_s=20, end_s=60)
    assert smart.segment_bounds("video", 3600 * SECOND) == (1, 10)
    assert smart.segment_bounds("video", 10 * SECOND) == (0, 0)
    assert smart.segment_bounds("image", None) == (1, 1)


def test_segment_lengths_sum_overlaps_and_the_range():
    assert fixed(hop=5).segment_lengths("video", 22 * SECOND, 4) == {10 * SECOND: 3, 7 * SECOND: 1}
    assert fixed(hop=30).segment_lengths("video", 65 * SECOND, 3) == {10 * SECOND: 2, 5 * SECOND: 1}
    assert SegmentationSettings(start_s=20, end_s=60).segment_lengths("video", 99 * SECOND, 10) == {4 * SECOND: 10}
    assert SegmentationSettings(start_s=20).segment_lengths("video", 9 * SECOND, 0) == {}


def test_hop_and_range_leave_the_identity_of_a_window_unchanged():
    plain = fixed().identity("video")
    assert fixed(hop=5, start=20, end=40).identity("video") == plain
    assert SegmentationSettings(start_s=3).identity("video") == SegmentationSettings().identity("video")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hop_s": 5}, "hop_s is 5, but neither video nor audio segmentation is fixed"),
        ({"video_strategy": "fixed", "video_duration_s": 10, "hop_s": 0}, "hop_s is 0; it must be 1 to 3600"),
        ({"video_strategy": "fixed", "video_duration_s": 10, "hop_s": 2.5}, "hop_s is 2.5; it must be 1 to 3600"),
        ({"start_s": -1}, "start_s is -1; it must be a number of seconds, 0 or more"),
        ({"start_s": float("nan")}, "start_s is nan; it must be a number of seconds, 0 or more"),
        ({"end_s": 0}, "the range ends at 0 s, but starts at 0 s; it must last at least 0.5 s"),
        ({"start_s": 90, "end_s": 60.5}, "the range ends at 60.5 s, but starts at 90 s; it must last at least 0.5 s"),
    ],
)
def test_invalid_hop_or_range_is_rejected_with_its_value(values, message):
    with pytest.raises(SettingsError) as error:
        SegmentationSettings(**values)
    assert message in str(error.value)
