"""Properties of the segment planner on generated evidence, compared with all possible plans."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptreel.media import planner
from promptreel.media.planner import plan_segments
from promptreel.schemas.media import Boundary, PlannedSegment, SoundActivity, TimeSpan
from promptreel.schemas.segmentation import LengthBounds, SegmentationSettings
from tests.media.evidence import SECOND, SHOTS, SILENT, SMART, Change, cut, lengths, sound


def times_us(upto_us: int = 300 * SECOND) -> st.SearchStrategy[int]:
    """Times in microseconds, often round ones so that some evidence coincides."""
    return st.one_of(st.integers(-SECOND, upto_us), st.integers(0, upto_us // 100_000).map(lambda t: t * 100_000))


@st.composite
def changes(draw: st.DrawFn, upto_us: int = 300 * SECOND) -> Change:
    at = draw(times_us(upto_us))
    kind = draw(st.sampled_from(["cut", "dissolve", "fade"]))
    reach = 0 if kind == "cut" else draw(st.integers(0, SECOND))
    return Change(kind, at - reach, at + reach, at, draw(st.floats(0, 1)))


@st.composite
def activities(draw: st.DrawFn, upto_us: int = 300 * SECOND) -> SoundActivity:
    detector = draw(st.sampled_from(["silero", "level", "none"]))
    spans, at = [], draw(st.integers(0, 3 * SECOND))
    for length, gap in draw(st.lists(st.tuples(st.integers(1, 20 * SECOND), st.integers(1, 3 * SECOND)))):
        spans.append(TimeSpan(at, at + length))
        at += length + gap
    return SoundActivity(detector, () if detector == "none" else tuple(s for s in spans if s.start_us < upto_us))


@st.composite
def bounds(draw: st.DrawFn) -> LengthBounds:
    min_us = draw(st.integers(500_000, 20 * SECOND))
    max_us = draw(st.integers(3 * min_us, 100 * SECOND))
    return LengthBounds(min_us, draw(st.integers(min_us, max_us)), max_us)


ITEMS = st.tuples(st.integers(1, 250 * SECOND), st.lists(changes(), max_size=60), activities())


def check_plan(plan: Sequence[PlannedSegment], duration_us: int, allowed: LengthBounds) -> None:
    assert plan[0].start == Boundary(0, "start", 1.0)
    assert plan[-1].end == Boundary(duration_us, "end", 1.0)
    for one, two in pairwise(plan):
        assert one.end is two.start
    for part in plan:
        assert min(allowed.min_us, duration_us) <= part.span.duration_us <= allowed.max_us
    for part in plan[:-1]:
        assert part.end.reason in ("cut", "fade", "pause", "limit")
        assert 0 <= part.end.score <= 1


@given(ITEMS, bounds(), st.sampled_from(["smart", "content_aware", "audio"]))
@settings(max_examples=150, deadline=None)
def test_plans_satisfy_the_bounds_and_cover_the_item(
    item: tuple[int, list[Change], SoundActivity], allowed: LengthBounds, strategy: str
) -> None:
    duration_us, found, activity = item
    segmentation = SegmentationSettings(
        video_strategy="content_aware" if strategy == "content_aware" else "smart",
        smart_lengths=allowed,
        shot_lengths=allowed,
        pause_lengths=allowed,
    )
    media_type = "audio" if strategy == "audio" else "video"
    plan = plan_segments(media_type, duration_us, found, activity, segmentation)
    check_plan(plan, duration_us, allowed)
    if not activity.spans and not found and duration_us <= allowed.max_us:
        assert len(plan) == 1
    if media_type == "audio":
        assert {part.end.reason for part in plan} <= {"pause", "limit", "end"}


@given(ITEMS, st.randoms(use_true_random=False), st.sampled_from([SMART, SHOTS]))
@settings(max_examples=60, deadline=None)
def test_evidence_order_duplicates_and_outside_times_do_not_matter(
    item: tuple[int, list[Change], SoundActivity], rng: random.Random, segmentation: SegmentationSettings
) -> None:
    duration_us, found, activity = item
    plan = plan_segments("video", duration_us, found, activity, segmentation)
    outside = [replace(cut(0), at_us=at) for at in (-5, 0, duration_us, duration_us + 7)]
    mixed = [*found, *found[:3], *outside]
    spans = list(activity.spans)
    rng.shuffle(mixed)
    rng.shuffle(spans)
    assert (
        plan_segments("video", duration_us, mixed, SoundActivity(activity.detector, tuple(spans)), segmentation) == plan
    )


@st.composite
def fixed_durations(draw: st.DrawFn) -> tuple[int, int]:
    """(duration in microseconds, window in seconds), often with a remainder close to nothing, half a second or a window."""
    window_s = draw(st.integers(1, 300))
    windows = draw(st.integers(0, 2000 // window_s))
    edge_us = draw(st.sampled_from([0, SECOND // 2, window_s * SECOND]))
    remainder_us = draw(st.integers(0, window_s * SECOND) | st.integers(edge_us - 5000, edge_us + 5000))
    return max(1, windows * window_s * SECOND + remainder_us), window_s


@given(fixed_durations(), st.sampled_from(["video", "audio"]))
@settings(max_examples=300)
def test_fixed_windows_are_equal_except_the_last(
    duration_and_window: tuple[int, int], media_type: Literal["video", "audio"]
) -> None:
    duration_us, window_s = duration_and_window
    window_us, half_second_us = window_s * SECOND, SECOND // 2
    segmentation = SegmentationSettings("fixed", "fixed", window_s, window_s)
    plan = plan_segments(media_type, duration_us, [cut(1)], sound((0.5, 2)), segmentation)
    assert plan[0].start == Boundary(0, "start", 1.0)
    assert all(one.end == two.start for one, two in pairwise(plan))
    assert [part.span.duration_us for part in plan[:-1]] == [window_us] * (len(plan) - 1)
    assert min(duration_us, half_second_us) <= plan[-1].span.duration_us < window_us + half_second_us
    assert plan[-1].end == Boundary(duration_us, "end", 1.0)
    assert all(part.end == Boundary(part.end.time_us, "window", 1.0) for part in plan[:-1])
    assert segmentation.segment_bounds(media_type, duration_us) == (len(plan), len(plan))


@pytest.mark.parametrize("media_type", ["video", "audio"])
@pytest.mark.parametrize(
    ("duration_us", "window_s", "count", "last_us"),
    [
        (30_003_000, 1, 30, 1_003_000),
        (30_499_999, 1, 30, 1_499_999),
        (30_500_000, 1, 31, 500_000),
        (30_000_000, 1, 30, 1_000_000),
        (60_040_000, 30, 2, 30_040_000),
        (3_000, 1, 1, 3_000),
    ],
)
def test_remainder_under_half_a_second_joins_the_last_window(
    media_type: Literal["video", "audio"], duration_us: int, window_s: int, count: int, last_us: int
) -> None:
    segmentation = SegmentationSettings("fixed", "fixed", window_s, window_s)
    plan = plan_segments(media_type, duration_us, [], SILENT, segmentation)
    assert (len(plan), plan[-1].span.duration_us) == (count, last_us)
    assert segmentation.segment_bounds(media_type, duration_us) == (count, count)


@pytest.mark.parametrize("segmentation", [SMART, SHOTS, SegmentationSettings("fixed", "fixed", 5, 5)])
def test_image_is_one_segment_without_duration(segmentation: SegmentationSettings) -> None:
    expected = (PlannedSegment(Boundary(0, "start", 1.0), Boundary(0, "end", 1.0)),)
    assert plan_segments("image", 0, [], SILENT, segmentation) == expected
    assert plan_segments("image", 40_000, [], SILENT, segmentation) == expected


@pytest.mark.parametrize("media_type", ["video", "audio"])
@pytest.mark.parametrize("duration_us", [0, -1])
def test_duration_must_be_positive(media_type: Literal["video", "audio"], duration_us: int) -> None:
    with pytest.raises(ValueError, match=f"duration_us is {duration_us}; it must be positive for {media_type}"):
        plan_segments(media_type, duration_us, [], SILENT, SMART)


WILD_TIMES = st.integers(-(10**12), 10**12) | st.sampled_from([0, 1, -1, SECOND])


@given(
    st.integers(1, 250 * SECOND),
    st.lists(st.tuples(st.sampled_from(["cut", "dissolve", "fade"]), WILD_TIMES, WILD_TIMES, WILD_TIMES), max_size=30),
    st.lists(st.tuples(WILD_TIMES, WILD_TIMES), max_size=10),
    st.sampled_from([SMART, SHOTS, SegmentationSettings("fixed", "fixed", 7, 7)]),
)
@settings(max_examples=150, deadline=None)
def test_no_segment_is_empty_for_any_evidence(
    duration_us: int,
    found: list[tuple[Literal["cut", "dissolve", "fade"], int, int, int]],
    spans: list[tuple[int, int]],
    segmentation: SegmentationSettings,
) -> None:
    changes = [Change(*change) for change in found]
    activity = SoundActivity("silero", tuple(TimeSpan(*span) for span in spans))
    plan = plan_segments("video", duration_us, changes, activity, segmentation)
    assert (plan[0].span.start_us, plan[-1].span.end_us) == (0, duration_us)
    assert all(part.span.duration_us > 0 for part in plan)
    assert all(one.end is two.start for one, two in pairwise(plan))


def test_a_film_of_twelve_hours_with_20_000_cuts() -> None:
    rng = random.Random(7)
    duration_us = 12 * 3600 * SECOND
    found = [cut(at / 10, rng.random()) for at in rng.sample(range(duration_us // 100_000), 20_000)]
    spans, at = [], 0
    while at < duration_us:
        end = at + rng.randrange(500_000, 6 * SECOND)
        spans.append(TimeSpan(at, end))
        at = end + rng.randrange(260_000, 1_500_000)
    for segmentation in (SMART, SHOTS):
        plan = plan_segments("video", duration_us, found, SoundActivity("silero", tuple(spans)), segmentation)
        check_plan(plan, duration_us, segmentation.bounds_of("video"))


def test_crowded_evidence_is_thinned() -> None:
    found = [cut(30 + at / 20_000, at / 20_000) for at in range(20_000)]
    plan = plan_segments("video", 60 * SECOND, found, SILENT, SMART)
    check_plan(plan, 60 * SECOND, SMART.bounds_of("video"))
    assert any(part.end.reason == "cut" for part in plan)


@given(
    st.integers(4 * SECOND, 16 * SECOND),
    st.lists(changes(16 * SECOND), max_size=6),
    activities(16 * SECOND),
    st.sampled_from([lengths(1.5, 3, 5), lengths(2, 4, 6), lengths(1, 4, 20)]),
)
@settings(max_examples=60, deadline=None)
def test_smart_finds_the_cheapest_of_all_plans(
    duration_us: int, found: list[Change], activity: SoundActivity, allowed: LengthBounds
) -> None:
    segmentation = SegmentationSettings(smart_lengths=allowed)
    start, end = Boundary(0, "start", 1.0), Boundary(duration_us, "end", 1.0)
    item_sound = planner._Sound(activity, duration_us)
    candidates = planner._candidates(planner._shots(found, duration_us), item_sound)
    inner = [candidate for candidate in candidates if 0 < candidate.time_us < duration_us]
    offered = [candidate.boundary for candidate in planner._fill_gaps(start, end, inner, item_sound, allowed)]
    best = min(
        cost_of([*plan, end], activity, duration_us, allowed)
        for plan in every_plan(start, offered, duration_us, allowed)
    )
    plan = plan_segments("video", duration_us, found, activity, segmentation)
    chosen = [plan[0].start, *(part.end for part in plan)]
    assert cost_of(chosen, activity, duration_us, allowed) == best


def every_plan(
    start: Boundary, offered: Sequence[Boundary], duration_us: int, allowed: LengthBounds
) -> Iterator[list[Boundary]]:
    """Yield every selection of the offered boundaries that satisfies the length bounds, without the end."""
    left = duration_us - start.time_us
    if min(allowed.min_us, duration_us) <= left <= allowed.max_us:
        yield [start]
    for number, boundary in enumerate(offered):
        length = boundary.time_us - start.time_us
        if allowed.min_us <= length <= allowed.max_us:
            for rest in every_plan(boundary, offered[number + 1 :], duration_us, allowed):
                yield [start, *rest]


def cost_of(
    plan: Sequence[Boundary], activity: SoundActivity, duration_us: int, allowed: LengthBounds
) -> tuple[int, int, int]:
    """Return (cuts through speech, boundaries without evidence, cost) of a plan, computed directly from the rules."""
    through_speech = limits = cost = 0
    gaps = silences(activity, duration_us)
    for boundary in plan[1:-1]:
        inside = bool(gaps is not None) and not any(
            one - 62_000 <= boundary.time_us <= two + 62_000 for one, two in gaps or () if two - one >= 240_000
        )
        through_speech += inside and activity.detector == "silero"
        if boundary.reason == "limit":
            limits += 1
            breath = max(
                (b - a for a, b in gaps or () if b - a < 240_000 and boundary.time_us == (a + b) // 2), default=0
            )
            cost += 2_000_000 * (240_000 - breath) // 240_000 if inside else 0
            continue
        cost += round(600_000 * (1 - boundary.score))
        any_pause = any(two - one >= 240_000 for one, two in gaps or ())
        if boundary.reason == "pause" or inside or not any_pause:
            cost += 300_000
        if inside and activity.detector != "silero":
            cost += 200_000
    for one, two in pairwise(plan):
        length = two.time_us - one.time_us
        length_ms, target_ms = max(1, length // 1000), allowed.target_us // 1000
        long, short = max(length_ms, target_ms), min(length_ms, target_ms)
        cost += (1_000_000 * long**2 // short**2 - 1_000_000) // 3
    return through_speech, limits, cost


def silences(activity: SoundActivity, duration_us: int) -> list[tuple[int, int]] | None:
    """Return the silences between spans; None if the item has no sound."""
    spans = [span for span in activity.spans if span.start_us < duration_us]
    if not spans:
        return None
    edges = [0, *(t for span in spans for t in (span.start_us, min(span.end_us, duration_us))), duration_us]
    return [(one, two) for one, two in zip(edges[::2], edges[1::2], strict=True) if one < two]
