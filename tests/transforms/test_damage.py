"""Damaged media in a run: columns of the table `media`, and the damage limit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from promptreel.media.analysis import analyze_media
from promptreel.media.probe import probe_media
from promptreel.schemas.errors import MediaError
from promptreel.schemas.settings import MediaLimits, SamplingSettings
from promptreel.transforms.elements import ItemOutcome, ItemPlan, MediaItem
from promptreel.transforms.rows.media_row import media_row
from promptreel.transforms.segment_media import check_damage
from tests.media_files import ffmpeg, tone, write_sound


@pytest.fixture
def truncated_song(tmp_path: Path) -> Path:
    path = write_sound(tmp_path / "song.flac", tone(440, 10))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_media_row_reports_the_damage(truncated_song: Path, tmp_path: Path) -> None:
    (tmp_path / "analysis").mkdir()
    limits = MediaLimits()
    analysis = analyze_media(probe_media(truncated_song), tmp_path / "analysis", SamplingSettings(), limits)
    item = MediaItem("vid_1", truncated_song.name, str(truncated_song), (), "0" * 64)
    row = media_row(ItemOutcome(ItemPlan(item, "key"), ()), analysis, "run_1")
    assert (row.truncated, "truncated" in row.warning_codes) == (True, True)
    assert row.decoded_duration_seconds == pytest.approx(5, abs=1)
    assert row.damaged_share == pytest.approx(1 - row.decoded_duration_seconds / 10, abs=0.02)
    assert len(row.warnings) == len(row.warning_codes)
    check_damage("song.flac", analysis, limits)
    with pytest.raises(MediaError, match=r"song.flac: \d+% is damaged, more than the limit of 10%") as caught:
        check_damage("song.flac", analysis, replace(limits, max_damaged_share=0.1))
    assert (caught.value.code, caught.value.retryable) == ("media_corrupt", False)


def test_undamaged_item_passes_a_limit_of_zero(tmp_path: Path) -> None:
    song = write_sound(tmp_path / "song.mp3", tone(440, 4))
    (tmp_path / "analysis").mkdir()
    analysis = analyze_media(probe_media(song), tmp_path / "analysis", SamplingSettings(), MediaLimits())
    assert (analysis.decode_errors, analysis.damaged_share, analysis.warnings) == (0, 0.0, ())
    check_damage("song.mp3", analysis, MediaLimits(max_damaged_share=0))


def test_container_start_offset_is_probed(tmp_path: Path) -> None:
    song = write_sound(tmp_path / "song.m4a", tone(440, 4))
    ffmpeg("-itsoffset", 30, "-i", song, "-c", "copy", "-muxdelay", 0, tmp_path / "late.ts")
    assert probe_media(tmp_path / "late.ts").start_us == pytest.approx(30_000_000, abs=100_000)
    assert json.dumps(probe_media(song).start_us) == "0"
