"""Stereo recordings with one speaker per channel are split; ordinary stereo is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from promptreel.media.analysis import MediaAnalysis, analyze_media
from promptreel.media.channels import CHANNEL_FILES, are_separate
from promptreel.media.probe import probe_media
from promptreel.schemas.settings import MediaLimits, SamplingSettings
from tests.media_files import RATE, Sound, ffmpeg, read_sound, silence, tone, write_wave
from tests.voices import draw_voice


def interview(bleed: float = 0.0) -> tuple[Sound, Sound]:
    """Two voices in turn, each with its bleed in the other's channel."""
    turns = [draw_voice(5, seed).samples for seed in (1, 2, 3, 4)]
    left = np.concatenate([turn if number % 2 == 0 else (bleed * turn) for number, turn in enumerate(turns)])
    right = np.concatenate([turn if number % 2 == 1 else (bleed * turn) for number, turn in enumerate(turns)])
    return left.astype(np.int16), right.astype(np.int16)


def write_stereo(path: Path, left: Sound, right: Sound, *options: object) -> Path:
    sides = [write_wave(path.with_name(f"{name}.wav"), side) for name, side in (("l", left), ("r", right))]
    join = ("-filter_complex", "[0:a][1:a]join=inputs=2:channel_layout=stereo")
    ffmpeg("-i", sides[0], "-i", sides[1], *join, *options, path)
    return path


def analyze(path: Path, folder: Path) -> MediaAnalysis:
    folder.mkdir()
    return analyze_media(probe_media(path), folder, SamplingSettings(), MediaLimits())


@pytest.mark.parametrize(
    ("name", "bleed"), [("i.wav", 0.0), ("i.wav", 0.1), ("i.mp3", 0.05), ("i.m4a", 0.05), ("i.ts", 0.05)]
)
def test_interview_is_split_into_its_speakers(name: str, bleed: float, tmp_path: Path) -> None:
    left, right = interview(bleed)
    found = analyze(write_stereo(tmp_path / name, left, right), tmp_path / "out")
    assert [channel.file for channel in found.channels] == list(CHANNEL_FILES)
    for channel, expected in zip(found.channels, (left, right), strict=True):
        sound = read_sound(tmp_path / "out" / channel.file)
        assert len(sound) / RATE == pytest.approx(len(expected) / RATE, abs=0.1)
        length = min(len(sound), len(expected)) // 1600 * 1600
        levels = [np.abs(part[:length].reshape(-1, 1600).astype(float)).mean(axis=1) for part in (sound, expected)]
        assert np.corrcoef(levels)[0, 1] > 0.95
    assert read_sound(tmp_path / "out" / str(found.audio_file)).size  # the mix stays as it was


def test_activity_of_each_channel_is_that_of_its_speaker(tmp_path: Path) -> None:
    left, right = interview()
    found = analyze(write_stereo(tmp_path / "i.wav", left, right), tmp_path / "out")
    assert {channel.activity.detector for channel in found.channels} == {"silero"}
    for channel, expected in zip(found.channels, (left, right), strict=True):
        for span in channel.activity.spans:
            part = expected[span.start_us * RATE // 1_000_000 : span.end_us * RATE // 1_000_000]
            assert np.abs(part.astype(float)).mean() > 50


def test_ordinary_stereo_is_not_split(tmp_path: Path) -> None:
    voice = draw_voice(10, 1).samples.astype(float)
    rng = np.random.default_rng(1)
    left, right = ((voice + rng.normal(0, 300, len(voice))).astype(np.int16) for _ in range(2))
    found = analyze(write_stereo(tmp_path / "s.wav", left, right), tmp_path / "out")
    assert found.channels == ()
    assert not (tmp_path / "out" / "left.flac").exists()


def test_one_silent_channel_is_not_split(tmp_path: Path) -> None:
    voice = draw_voice(10, 1).samples
    assert analyze(write_stereo(tmp_path / "s.wav", voice, 0 * voice), tmp_path / "out").channels == ()


def test_mono_and_short_sound_are_not_split(tmp_path: Path) -> None:
    mono = write_wave(tmp_path / "mono.wav", np.concatenate([tone(300, 2), silence(1)]))
    assert analyze(mono, tmp_path / "a").channels == ()
    short = write_stereo(tmp_path / "short.wav", np.concatenate([tone(300, 0.5), silence(0.5)]), silence(1))
    assert analyze(short, tmp_path / "b").channels == ()


@pytest.mark.parametrize(
    ("left_db", "right_db", "expected"),
    [((-20, -40), (-40, -20), True), ((-20, -25), (-25, -20), False), ((-20, -20), (-60, -60), False)],
)
def test_separation_needs_different_levels(left_db: tuple[int, int], right_db: tuple[int, int], expected: bool) -> None:
    levels = np.array([left_db[:1] * 50 + left_db[1:] * 50, right_db[:1] * 50 + right_db[1:] * 50], float).T
    assert are_separate(levels) is expected
    assert not are_separate(levels - 100)  # silence
