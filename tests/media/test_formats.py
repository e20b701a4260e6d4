"""Every extension searched for in folders belongs to a readable format."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptreel.media.formats import DEMUXERS, EXTENSIONS
from promptreel.media.probe import probe_media
from tests.media_files import ffmpeg

SOUND = ("-f", "lavfi", "-i", "sine=440:d=2")
FILM = ("-f", "lavfi", "-i", "testsrc2=s=352x288:r=25:d=2")
PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=320x240:d=1", "-frames:v", 1)
# Extensions that the test encoder does not derive the muxer from.
MUXERS = {
    "m4b": "ipod", "qt": "mov", "weba": "webm", "ps": "mpeg", "wma": "asf", "wmv": "asf", "mj2": "mp4", "ec3": "eac3",
    "vob": "vob", "adts": "adts", "264": "h264", "h265": "hevc", "265": "hevc", "j2k": "image2",
}  # fmt: skip
ENCODERS = {
    "amr": ("-c:a", "libopencore_amrnb", "-ar", 8000), "dts": ("-c:a", "dca", "-strict", -2), "spx": ("-c:a", "libopus"),
    "mxf": ("-ar", 48000), "weba": ("-c:a", "libopus"), "mp2": ("-c:a", "mp2"), "opus": ("-c:a", "libopus"),
    "3gp": ("-c:v", "libx264", "-an"), "3g2": ("-c:v", "libx264", "-an"), "wv": ("-c:a", "wavpack"),
    "hevc": ("-c:v", "libx265"), "h265": ("-c:v", "libx265"), "265": ("-c:v", "libx265"), "apng": ("-plays", 0),
}  # fmt: skip
AUDIO = set(
    "m4a m4b mka weba wma ogg oga opus spx wav w64 mp3 mp2 flac aac adts ac3 eac3 ec3 dts aiff aif caf amr wv".split()
)
IMAGES = set("jpg jpeg png webp bmp tif tiff jp2 j2k gif apng".split())
BY_PILLOW = {"heic", "heif", "avif"}  # tests/media/test_stills.py


@pytest.mark.parametrize("extension", sorted(EXTENSIONS - BY_PILLOW))
def test_extension_belongs_to_a_readable_format(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"f.{extension}"
    source = SOUND if extension in AUDIO else PICTURE if extension in IMAGES else FILM
    muxer = ("-f", "ogg") if extension == "spx" else ("-f", MUXERS[extension]) if extension in MUXERS else ()
    ffmpeg(*source, *ENCODERS.get(extension, ()), *muxer, path)
    info = probe_media(path)
    expected = "audio" if extension in AUDIO else "image" if extension in IMAGES else "video"
    assert info.media_type == expected
    assert info.warnings == () or info.container in ("h264", "hevc", "mpegvideo")


def test_no_demuxer_reads_other_files() -> None:
    assert not {"hls", "dash", "concat", "sdp", "image2", "imf", "lavfi", "tty", "webvtt"} & set(DEMUXERS)
    assert len(DEMUXERS) == len(set(DEMUXERS))
