"""Marks of overlapping stretches joined into one list, and their boundaries moved to shots and pauses."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptreel.media.marked_plan import SNAP_US, plan_marked
from promptreel.media.marks import SHARED_US, STRETCH_US, Mark, plan_stretches, stitch_marks
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.segmentation import DEFINED, SegmentationSettings
from tests.media.evidence import SECOND, SILENT, cut, dissolve, sound

DEFINITION = SegmentationSettings(segments_by="one segment per product shown")


def mark(start_s, end_s, label="x"):
    return Mark(round(start_s * SECOND), round(end_s * SECOND), label)


def stitched(*views):
    """Stitch ((start, end) of a stretch, marks) with all times in seconds of the item."""
    spans = [(TimeSpan(start * SECOND, end * SECOND), [mark(*part) for part in marks]) for (start, end), marks in views]
    found = stitch_marks(spans, DEFINED.min_us)
    return [(part.start_us / SECOND, part.end_us / SECOND, part.label) for part in found]


def test_stretches_cover_the_range_and_share_time():
    stretches = plan_stretches(TimeSpan(10 * SECOND, 1000 * SECOND))
    assert (stretches[0].start_us, stretches[-1].end_us) == (10 * SECOND, 1000 * SECOND)
    assert all(one.end_us - two.start_us == SHARED_US for one, two in pairwise(stretches))
    assert max(part.duration_us for part in stretches) == STRETCH_US
    assert plan_stretches(TimeSpan(0, STRETCH_US)) == [TimeSpan(0, STRETCH_US)]


FIRST, SECOND_STRETCH, THIRD = (0, 180), (160, 340), (320, 500)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([(150, 180, "mug")], [(160, 200, "mug")], [(150, 200, "mug")]),
        ([(150, 178, "mug")], [(161, 200, "a mug")], [(150, 200, "a mug")]),
        ([(150, 169, "mug"), (169, 180, "hat")], [(160, 169.4, "mug"), (169.4, 200, "hat")],
         [(150, 169, "mug"), (169, 200, "hat")]),
        ([(150, 172, "mug"), (172, 180, "hat")], [(160, 168, "mug"), (168, 200, "hat")],
         [(150, 170, "mug"), (170, 200, "hat")]),
        ([(150, 165, "mug")], [(175, 200, "hat")], [(150, 165, "mug"), (175, 200, "hat")]),
        ([(150, 180, "mug")], [(176, 200, "hat")], [(150, 180, "mug"), (180, 200, "hat")]),
        ([(100, 120, "mug")], [(160, 172, "hat")], [(100, 120, "mug"), (160, 172, "hat")]),
        ([], [(162, 168, "hat")], []),
        ([(0, 3, "mug")], [], [(0, 3, "mug")]),
    ],
)  # fmt: skip
def test_two_views_of_shared_time_are_joined_at_its_middle(before, after, expected):
    assert stitched((FIRST, before), (SECOND_STRETCH, after)) == expected


def test_segment_over_three_stretches_is_one():
    views = [(FIRST, [(100, 180, "a")]), (SECOND_STRETCH, [(160, 340, "talk")]), (THIRD, [(320, 400, "b")])]
    assert stitched(*views) == [(100, 400, "talk")]


MARKS = st.lists(st.tuples(st.integers(0, 160), st.integers(2, 60)), max_size=8)


@given(st.lists(MARKS, min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_stitched_marks_are_ordered_and_long_enough(drawn):
    spans = plan_stretches(TimeSpan(0, STRETCH_US + (len(drawn) - 1) * (STRETCH_US - SHARED_US)))
    views = []
    for span, parts in zip(spans, drawn, strict=True):
        marks, at_us = [], span.start_us
        for gap_s, length_s in parts:
            start_us = at_us + gap_s * SECOND
            at_us = min(span.end_us, start_us + length_s * SECOND)
            if at_us - start_us >= DEFINED.min_us:
                marks.append(Mark(start_us, at_us, "x"))
        views.append((span, marks))
    found = stitch_marks(views, DEFINED.min_us)
    assert all(part.end_us - part.start_us >= DEFINED.min_us for part in found)
    assert all(one.end_us <= two.start_us for one, two in pairwise(found))


def planned(marks, changes=(), activity=SILENT, duration_s=60, settings=DEFINITION, media_type="video"):
    found = plan_marked(
        [mark(*part) for part in marks], media_type, round(duration_s * SECOND), changes, activity, settings
    )
    return [(part.start.time_us / SECOND, part.end.time_us / SECOND, part.label) for part in found]


def test_boundaries_move_to_shots_first_and_then_to_pauses():
    activity = sound((0, 19.8), (20.2, 60))  # a pause at 20 s
    assert planned([(5, 10.4), (19.3, 30)], [cut(10, 0.8), cut(18.4)], activity) == [(5, 10, "x"), (18.4, 30, "x")]
    assert planned([(5, 10.4), (19.3, 30)], [cut(10, 0.8)], activity) == [(5, 10, "x"), (20, 30, "x")]
    assert planned([(5, 12)], [dissolve(10.5, 12.3)]) == [(5, 11.4, "x")]
    assert planned([(5, 12)], [cut(10.9)]) == [(5, 12, "x")]  # too far away
    assert planned([(5, 12)], [cut(11.5)], media_type="audio") == [(5, 12, "x")]


def test_boundary_score_is_that_of_its_evidence():
    marks = [mark(5, 10.4), mark(20, 58)]
    first, second = plan_marked(marks, "video", 60 * SECOND, [cut(10, 0.8)], SILENT, DEFINITION)
    assert [(part.reason, part.score) for part in (first.start, first.end)] == [
        ("definition", 0.0),
        ("definition", 0.8),
    ]
    assert (second.end.reason, second.end.score) == ("definition", 0.0)


def test_marks_close_to_each_other_or_an_edge_meet():
    assert planned([(0.9, 10, "a"), (10.9, 20, "b"), (21, 59.2, "c")]) == [
        (0, 10, "a"), (10, 20, "b"), (21, 60, "c"),
    ]  # fmt: skip
    (only,) = plan_marked([mark(0.5, 59.5)], "video", 60 * SECOND, [], SILENT, DEFINITION)
    assert (only.start.reason, only.end.reason) == ("start", "end")


def test_boundary_stays_where_moving_would_shorten_a_segment_too_far():
    assert planned([(10, 12.2)], [cut(10.9)]) == [(10, 12.2, "x")]
    assert planned([(10, 12), (12, 14)], [cut(11.5), cut(12.9)]) == [(10, 12, "x"), (12, 14, "x")]


def test_long_segment_is_split_at_evidence_and_keeps_its_label():
    found = planned([(10, 410, "talk")], [cut(200, 1.0)], duration_s=500)
    assert found[0][0] == 10
    assert 200 in [end for _, end, _ in found]
    assert {label for *_, label in found} == {"talk"}


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(20, 400)), max_size=12),
    st.lists(st.integers(0, 2500), max_size=60),
    st.integers(0, 5),
)
@settings(max_examples=200, deadline=None)
def test_plans_of_any_marks_are_ordered_and_stay_near_them(parts, cuts, start_s):
    marks, at = [], start_s * 10
    for gap, length in parts:
        marks.append(mark((at + gap) / 10, (at + gap + length) / 10, f"{len(marks)}"))
        at += gap + length
    duration_us = max(at * SECOND // 10, 10 * SECOND)
    segmentation = SegmentationSettings(segments_by="x", start_s=start_s)
    changes = [cut(time / 10) for time in cuts if time * SECOND // 10 < duration_us]
    found = plan_marked(marks, "video", duration_us, changes, SILENT, segmentation)
    assert [part.label for part in found] == [part.label for part in marks]
    for part, one in zip(found, marks, strict=True):
        assert part.span.duration_us >= DEFINED.min_us
        assert abs(part.span.start_us - one.start_us) <= 2 * SNAP_US
        assert abs(part.span.end_us - one.end_us) <= SNAP_US
        assert start_s * SECOND <= part.span.start_us < part.span.end_us <= duration_us
    assert all(one.span.end_us <= two.span.start_us for one, two in pairwise(found))
