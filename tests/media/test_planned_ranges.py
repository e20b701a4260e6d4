"""Plans of overlapping windows, of windows with gaps, and of a part of an item."""

from itertools import pairwise

import pytest

from promptreel.media.planner import plan_segments
from promptreel.schemas.segmentation import SegmentationSettings
from tests.media.evidence import SECOND, SILENT, cut, sound


def plan(duration_s, settings, changes=(), activity=SILENT, media_type="video"):
    """Return the segments as (start, end, reason of start, reason of end), in seconds."""
    found = plan_segments(media_type, round(duration_s * SECOND), changes, activity, settings)
    return [(s.start.time_us / SECOND, s.end.time_us / SECOND, s.start.reason, s.end.reason) for s in found]


def test_overlapping_windows_have_their_own_boundaries():
    settings = SegmentationSettings("fixed", "fixed", 10, 10, hop_s=5)
    assert plan(20, settings) == [
        (0, 10, "start", "window"), (5, 15, "window", "window"), (10, 20, "window", "end"),
    ]  # fmt: skip


def test_windows_of_a_range_end_at_its_edges():
    settings = SegmentationSettings("fixed", "fixed", 10, 10, start_s=5, end_s=22)
    assert plan(60, settings) == [(5, 15, "range", "window"), (15, 22, "window", "range")]
    assert plan(18, settings) == [(5, 15, "range", "window"), (15, 18, "window", "end")]


def test_sampled_windows_leave_gaps():
    settings = SegmentationSettings("fixed", "fixed", 5, 5, hop_s=20)
    assert plan(42, settings, media_type="audio") == [
        (0, 5, "start", "window"), (20, 25, "window", "window"), (40, 42, "window", "end"),
    ]  # fmt: skip


@pytest.mark.parametrize("strategy", ["smart", "content_aware"])
def test_evidence_outside_the_range_is_ignored(strategy):
    changes = [cut(at, 1.0) for at in (10, 30, 50, 75, 95)]
    settings = SegmentationSettings(strategy, start_s=20, end_s=90)
    found = plan(120, settings, changes)
    assert (found[0][0], found[0][2]) == (20, "range")
    assert (found[-1][1], found[-1][3]) == (90, "range")
    assert {part[1] for part in found[:-1]} >= {30, 50, 75}
    assert all(one[1] == two[0] for one, two in pairwise(found))


def test_audio_range_is_cut_in_its_pauses():
    activity = sound((0, 29), (30, 59), (60, 120))
    found = plan(120, SegmentationSettings(start_s=15, end_s=80), activity=activity, media_type="audio")
    assert [part[:2] for part in found] == [(15, 59.5), (59.5, 80)]


@pytest.mark.parametrize("strategy", ["smart", "content_aware", "fixed"])
def test_range_beyond_the_item_is_rejected(strategy):
    window = 10 if strategy == "fixed" else None
    settings = SegmentationSettings(strategy, video_duration_s=window, start_s=60)
    with pytest.raises(ValueError, match="leaves 0 us of 50000000 us"):
        plan(50, settings)
