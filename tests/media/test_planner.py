"""Segment plans for known evidence, and the validation of segmentation settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from promptreel.media.planner import plan_segments
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.media import SoundActivity
from promptreel.schemas.segmentation import LengthBounds, SegmentationSettings
from tests.media.evidence import SECOND, SHOTS, SILENT, SMART, Change, cut, dissolve, lengths, sound


def plan_video(
    duration_s: float,
    changes: Sequence[Change] = (),
    activity: SoundActivity = SILENT,
    segmentation: SegmentationSettings = SMART,
) -> list[tuple[float, str]]:
    """Return the inner boundaries as (seconds, reason)."""
    plan = plan_segments("video", round(duration_s * SECOND), changes, activity, segmentation)
    return [(part.end.time_us / SECOND, part.end.reason) for part in plan[:-1]]


def test_short_file_without_evidence_is_one_segment() -> None:
    assert plan_video(39) == []
    assert plan_video(39, activity=sound((0, 39))) == []
    assert plan_video(39, activity=sound((0, 39), by="level")) == []
    assert plan_video(59, segmentation=SHOTS) == []


def test_short_pause_beats_a_strong_cut_inside_speech() -> None:
    assert plan_video(48, [cut(24, 1.0)], sound((0, 20), (20.3, 48))) == [(20.15, "pause")]


def test_speech_without_a_pause_is_uncut_below_the_maximum() -> None:
    changes = [cut(at, 1.0) for at in range(3, 39, 3)]
    assert plan_video(39, changes, sound((0, 39))) == []


def test_cut_in_a_pause_beats_either_alone() -> None:
    activity = sound((0, 9), (10, 14), (15, 24))
    assert plan_video(24, [cut(9.7), cut(12, 1.0)], activity) == [(9.7, "cut")]
    assert plan_video(24, [cut(12, 1.0)], activity) in ([(9.5, "pause")], [(14.5, "pause")])


def test_cut_just_after_speech_counts_as_in_the_pause() -> None:
    assert plan_video(24, [cut(11.95)], sound((0, 12), (12.6, 24))) == [(11.95, "cut")]
    assert plan_video(24, [cut(11.9)], sound((0, 12), (12.6, 24))) == [(12.3, "pause")]


def test_dissolve_is_cut_in_the_pause_it_overlaps() -> None:
    # The middle of the dissolve (11.0 to 13.0) is in speech, but the pause from 12.4 overlaps it.
    assert plan_video(24, [dissolve(11, 13)], sound((0, 12.4), (13.4, 24))) == [(12.7, "fade")]


def test_music_does_not_prevent_cuts() -> None:
    changes = [cut(at) for at in range(12, 60, 12)]
    expected = [(at, "cut") for at in (12, 24, 36, 48)]
    assert plan_video(60, changes, sound((0, 60), by="level")) == expected
    assert plan_video(60, changes) == expected


def test_limits_are_as_few_as_possible_without_evidence() -> None:
    assert plan_video(70) == [(35, "limit")]
    assert [reason for _, reason in plan_video(121)] == ["limit"] * 3


def test_limit_is_placed_in_silence() -> None:
    # Speech with breaths too short for a pause, the longest at 25 s.
    spoken = sound((0, 20), (20.1, 25), (25.2, 30), (30.1, 50))
    assert plan_video(50, activity=spoken) == [(25.1, "limit")]
    # A long silence between speech near the start and speech near the end.
    far = plan_video(100, activity=sound((0, 20), (90, 100)))
    assert all(20 <= at <= 90 for at, _ in far)


def test_content_aware_video_follows_shots() -> None:
    changes = [cut(3), dissolve(9, 11), cut(10.5, 0.2), cut(30), cut(30.4, 0.95)]
    assert plan_video(40, changes, sound((0, 40)), SHOTS) == [(3, "cut"), (10, "fade"), (30.4, "cut")]


def test_content_aware_video_splits_long_shots_in_pauses() -> None:
    found = plan_video(100, [cut(10)], sound((0, 42), (42.5, 71), (71.4, 100)), SHOTS)
    assert found == [(10, "cut"), (42.25, "pause"), (71.2, "pause")]


def test_audio_follows_pauses_and_ignores_transitions() -> None:
    activity = sound((0, 31), (31.6, 60), (60.5, 90))
    plan = plan_segments("audio", 90 * SECOND, [cut(45, 1.0)], activity, SMART)
    assert [(p.end.time_us, p.end.reason) for p in plan] == [
        (31_300_000, "pause"),
        (60_250_000, "pause"),
        (90_000_000, "end"),
    ]
    assert plan[0].end.score == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"video_strategy": "clever"}, r"'clever'.*smart"),
        ({"audio_strategy": "smart"}, r"'smart'.*content_aware"),
        ({"video_strategy": "fixed"}, r"None.*1 to 300"),
        ({"video_strategy": "fixed", "video_duration_s": 0}, r"0.*1 to 300"),
        ({"video_strategy": "fixed", "video_duration_s": 301}, r"301.*1 to 300"),
        ({"video_strategy": "fixed", "video_duration_s": 2.5}, r"2\.5.*whole seconds"),
        ({"video_strategy": "fixed", "video_duration_s": True}, r"True.*whole seconds"),
        ({"video_duration_s": 10}, r"10.*fixed segmentation only"),
        ({"audio_duration_s": 10}, r"10.*fixed segmentation only"),
    ],
)
def test_invalid_settings_are_rejected(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        SegmentationSettings(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((400_000, SECOND, 2 * SECOND), "at least 500000"),
        ((SECOND, SECOND, 301 * SECOND), "at most 300000000"),
        ((2 * SECOND, SECOND, 9 * SECOND), "target_us is 1000000"),
        ((2 * SECOND, 3 * SECOND, 5 * SECOND), "too close"),
        ((1e6, SECOND, 9 * SECOND), "whole number"),
    ],
)
def test_invalid_lengths_are_rejected(values: tuple[int, int, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        LengthBounds(*values)


def test_identity_contains_only_settings_that_affect_the_plan() -> None:
    default = SegmentationSettings()
    assert default.identity("video") == SegmentationSettings("smart", "fixed", None, 9).identity("video")
    assert default.identity("video") == SegmentationSettings(shot_lengths=lengths(2, 3, 9)).identity("video")
    assert default.identity("audio") == SegmentationSettings("fixed", video_duration_s=9).identity("audio")
    assert default.identity("image") == SegmentationSettings("fixed", "fixed", 9, 9).identity("image")
    distinct = [
        default.identity("video"),
        default.identity("audio"),
        SHOTS.identity("video"),
        SegmentationSettings("fixed", video_duration_s=9).identity("video"),
        SegmentationSettings("fixed", video_duration_s=8).identity("video"),
        SegmentationSettings(smart_lengths=lengths(2, 3, 9)).identity("video"),
    ]
    assert all(distinct.count(identity) == 1 for identity in distinct)
