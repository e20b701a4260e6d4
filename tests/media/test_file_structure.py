"""Truncated files are recognized by their structure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from promptreel.media.file_structure import is_cut_off
from tests.media_files import ffmpeg, plain, textured, tone, write_film, write_image, write_sound


def written(folder: Path, suffix: str) -> Path:
    path = folder / f"f.{suffix}"
    if suffix in ("gif", "png", "webp"):
        return write_image(path, textured(5, 1, (320, 180)), "-frames:v", 1)
    if suffix == "webm":
        ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=10:d=2", "-c:v", "libvpx", path)
        return path
    if suffix in ("wav", "ogg", "opus", "m4a", "caf", "wma"):
        return write_sound(path, tone(440, 3))
    if suffix == "avi":
        ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=10:d=2", "-c:v", "mjpeg", path)
        return path
    return write_film(path, plain(["red", "blue"], 10), 10, sound=[tone(440, 2)])


@pytest.mark.parametrize(
    "suffix", ["mp4", "mov", "mkv", "webm", "avi", "wav", "ogg", "opus", "m4a", "caf", "wma", "gif", "png", "webp"]
)
@pytest.mark.parametrize("share", [0.3, 0.75, 0.99])
def test_truncated_file_is_recognized(suffix: str, share: float, tmp_path: Path) -> None:
    path = written(tmp_path, suffix)
    assert not is_cut_off(path)
    content = path.read_bytes()
    path.write_bytes(content[: max(40, int(len(content) * share))])
    assert is_cut_off(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "wav"])
def test_streamed_file_of_unknown_size_is_not_truncated(suffix: str, tmp_path: Path) -> None:
    options = ("-movflags", "frag_keyframe+empty_moov") if suffix == "mp4" else ()
    muxer = {"mkv": "matroska"}.get(suffix, suffix)
    source = written(tmp_path, "wav") if suffix == "wav" else written(tmp_path, "mp4")
    (tmp_path / "s").write_bytes(ffmpeg("-i", source, *options, "-f", muxer, "-"))
    assert not is_cut_off(tmp_path / "s")


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"OggS", b"\x1a\x45\xdf\xa3", b"\0\0\0\x08ftyp", b"\0\0\0\x01mdat\xff", b"text"]
)
def test_any_bytes_are_accepted(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(content)
    assert is_cut_off(tmp_path / "f") in (True, False)


def test_real_media_are_complete(real_media: Callable[[str], Path]) -> None:
    for name in ("big_buck_bunny_0_30.webm", "jfk.flac", "hard/h_arrow.heic", "hard/colour_change_concat.mp4"):
        assert not is_cut_off(real_media(name)), name
