"""Duration of decoded items: undeclared, slide shows, truncated files."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptreel.media.decode_sinks import DecodeSinks
from tests.conftest import COLOUR_FILM
from tests.media.decode_pass import Decode
from tests.media_files import (
    X264,
    ffmpeg,
    plain,
    textured,
    tone,
    write_film,
    write_image,
    write_sound,
)

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_stream_without_times_is_decoded_in_full(decoded: Decode, colour_film: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw.h264"
    raw.write_bytes(ffmpeg("-i", colour_film, "-c:v", "copy", "-an", "-bsf:v", "h264_mp4toannexb", "-f", "h264", "-"))
    got = decoded(raw)
    assert [name for _, name in got.sampled] == list(COLOUR_FILM)
    assert got.media.duration_us == pytest.approx(4_000_000, abs=40_000)


def test_undeclared_duration_is_measured(decoded: Decode, colour_film: Path, tmp_path: Path) -> None:
    streamed = tmp_path / "s.webm"
    vp8 = ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus", "-f", "webm")
    streamed.write_bytes(ffmpeg("-i", colour_film, *vp8, "-"))
    got = decoded(streamed)
    assert got.info.duration_us is None
    assert got.media.duration_us == pytest.approx(4_000_000, abs=30_000)


@pytest.mark.parametrize("count", [1, 65])
def test_last_frame_counts_with_its_duration(count: int, decoded: Decode, tmp_path: Path) -> None:
    streamed = tmp_path / "s.webm"
    film = write_film(tmp_path / "f.mp4", plain(["red"], count), 25)
    streamed.write_bytes(ffmpeg("-i", film, "-c:v", "libvpx", "-f", "webm", "-"))
    assert decoded(streamed).media.duration_us == pytest.approx(count * 40_000, abs=2000)


def test_last_picture_shown_to_the_end_is_not_truncation(decoded: Decode, tmp_path: Path) -> None:
    """The last slide of a slide show is one frame, shown for ten seconds."""
    for number, name in enumerate(("red", "blue")):
        write_image(tmp_path / f"{number}.png", plain([name], 1))
    script = tmp_path / "slides.ffconcat"
    script.write_text("file '0.png'\nduration 1\nfile '1.png'\nduration 10\nfile '1.png'\n")
    for suffix in ("mp4", "mkv"):
        ffmpeg("-f", "concat", "-i", script, "-fps_mode", "vfr", *X264, tmp_path / f"s.{suffix}")
        got = decoded(tmp_path / f"s.{suffix}")
        assert got.media.duration_us == got.info.duration_us
        assert (got.media.truncated, got.media.warnings) == (False, ())
    ffmpeg("-loop", 1, "-framerate", 0.1, "-t", 10, "-i", tmp_path / "0.png", *X264, tmp_path / "one.mp4")
    got = decoded(tmp_path / "one.mp4")
    assert (got.media.duration_us, got.media.truncated, got.media.frame_count) == (10_000_000, False, 1)


def test_picture_shown_during_subtitles_is_not_truncation(decoded: Decode, tmp_path: Path) -> None:
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:30,000\nHello\n")
    film = write_film(tmp_path / "f.mp4", plain(["red", "blue"], 10), 10)
    ffmpeg("-i", film, "-i", tmp_path / "words.srt", "-c:v", "copy", tmp_path / "f.mkv")
    got = decoded(tmp_path / "f.mkv")
    assert (got.media.duration_us, got.media.truncated) == (pytest.approx(30_000_000, abs=100_000), False)


def test_last_frame_after_a_full_block_counts_with_its_duration() -> None:
    sinks = DecodeSinks(lambda frames, times_us: None, lambda samples: None)
    for block in (64, 1):
        times = range(sinks.frame_count, sinks.frame_count + block)
        sinks.times.add(b"".join(b"frame:0 pts:%d pts_time:0\n" % (number * 40_000) for number in times))
        sinks.add_frames(bytes(block * 64 * 36 * 3))
    sinks.finish()
    assert (sinks.frame_count, sinks.last_us, sinks.step_us) == (65, 64 * 40_000, 40_000)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flac", "mp3", "m4a"])
def test_truncated_file_is_reported_and_decoded_to_its_end(suffix: str, decoded: Decode, tmp_path: Path) -> None:
    path, fast = tmp_path / f"f.{suffix}", ("-movflags", "+faststart") if suffix in ("mp4", "m4a") else ()
    if suffix in ("mp4", "mkv"):
        write_film(path, textured(5, 40), 20, *fast, sound=[tone(440, 10)])
    else:
        write_sound(path, tone(440, 10), *fast)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    got = decoded(path)
    assert got.media.truncated
    assert 2_000_000 < got.media.duration_us < 8_000_000
    (truncated,) = (warning for warning in got.media.warnings if warning.code == "truncated")
    assert "the file declares 10.0 s, but only " in truncated.message
    assert got.media.damaged_share == pytest.approx(0.5, abs=0.2)
    assert all(frame.time_us < got.media.duration_us for frame in got.media.frames)
