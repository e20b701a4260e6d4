"""Animated WebP, PNG and GIF pictures are short videos with the length that their frames declare."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from promptreel.media.analysis import analyze_media
from promptreel.media.animations import read_animation
from promptreel.media.probe import probe_media
from promptreel.schemas.settings import MediaLimits, SamplingSettings
from tests.media_files import COLOURS

DURATIONS_MS = (500, 250, 1000, 300)
SUFFIXES = ("webp", "png", "gif")


def write_animation(path: Path, names: tuple[str, ...] = ("red", "green", "blue", "white")) -> Path:
    pictures = [Image.new("RGB", (64, 48), COLOURS[name]) for name in names]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=list(DURATIONS_MS), lossless=True)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_animated_picture_is_a_video_of_its_declared_length(suffix: str, tmp_path: Path) -> None:
    path = write_animation(tmp_path / f"moving.{suffix}")
    info = probe_media(path)
    assert (info.media_type, info.duration_us, info.warnings) == ("video", sum(DURATIONS_MS) * 1000, ())
    assert info.video is not None
    assert info.video.display_size == (64, 48)
    (tmp_path / "out").mkdir()
    analysis = analyze_media(info, tmp_path / "out", SamplingSettings(frames_per_second=4), MediaLimits())
    assert analysis.duration_us == sum(DURATIONS_MS) * 1000
    assert analysis.frame_count == len(DURATIONS_MS)
    assert [frame.time_us for frame in analysis.frames] == [0, 500_000, 750_000, 1_750_000]
    assert (analysis.truncated, analysis.warnings) == (False, ())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_animation_is_reported(suffix: str, tmp_path: Path) -> None:
    path = write_animation(tmp_path / f"moving.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * 0.75)])
    (tmp_path / "out").mkdir()
    analysis = analyze_media(probe_media(path), tmp_path / "out", SamplingSettings(), MediaLimits())
    assert analysis.truncated
    assert "truncated" in [warning.code for warning in analysis.warnings]


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_still_picture_is_not_an_animation(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"still.{suffix}"
    Image.new("RGB", (64, 48), "red").save(path)
    assert read_animation(path) is None
    assert probe_media(path).media_type == "image"


def test_animation_of_one_frame_is_an_image(tmp_path: Path) -> None:
    still = tmp_path / "still.webp"
    Image.new("RGB", (64, 48), COLOURS["red"]).save(still, lossless=True)
    bitstream = still.read_bytes()[12:]
    header = bytes([2, 0, 0, 0]) + (63).to_bytes(3, "little") + (47).to_bytes(3, "little")
    frame = bytes(6) + header[4:] + (100).to_bytes(3, "little") + b"\0" + bitstream
    chunks = b"WEBP" + chunk(b"VP8X", header) + chunk(b"ANIM", bytes(6)) + chunk(b"ANMF", frame)
    path = tmp_path / "one.webp"
    path.write_bytes(b"RIFF" + len(chunks).to_bytes(4, "little") + chunks)
    info = probe_media(path)
    assert (info.media_type, info.duration_us) == ("image", None)
    (tmp_path / "out").mkdir()
    analysis = analyze_media(info, tmp_path / "out", SamplingSettings(), MediaLimits())
    assert (len(analysis.frames), analysis.warnings) == (1, ())


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


@pytest.mark.parametrize("suffix", ["webp", "png"])
@pytest.mark.parametrize("length", [0, 12, 17, 30, 45, 60])
def test_truncated_header_is_not_an_error(suffix: str, length: int, tmp_path: Path) -> None:
    path = write_animation(tmp_path / f"moving.{suffix}")
    path.write_bytes(path.read_bytes()[:length])
    animation = read_animation(path)
    assert animation is None or animation.frame_count <= 1
