"""Probe results of files with known content."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from promptreel.media.probe import picture_format, probe_media
from promptreel.schemas.errors import MediaError
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.media import MediaInfo
from promptreel.schemas.media_warnings import MediaWarning
from promptreel.schemas.settings import MediaLimits
from tests.media_files import X264, ffmpeg, halves, plain, silence, tone, write_film, write_image, write_sound

pytestmark = pytest.mark.usefixtures("leaves_nothing")
STILL = halves("red", "blue", (64, 48))


def probe_error(path: Path, limits: MediaLimits | None = None) -> MediaError:
    """Return the error of a rejected file, which must name the file and have a known code."""
    with pytest.raises(MediaError) as caught:
        probe_media(path, limits)
    assert caught.value.code in FAILURE_CODES
    assert str(path) in caught.value.message
    return caught.value


def test_video_with_sound(colour_film: Path) -> None:
    info = probe_media(colour_film)
    assert (info.media_type, info.duration_us, info.size_bytes) == ("video", 4_000_000, colour_film.stat().st_size)
    assert info.video is not None
    assert (info.video.codec, info.video.display_size, info.video.frame_rate) == ("h264", (160, 90), 25.0)
    assert info.video.frame_count == 100
    assert [(track.codec, track.sample_rate, track.channels) for track in info.audio] == [("aac", 16_000, 1)]
    assert (info.audio_index, info.warnings) == (1, ())


def test_video_without_sound(tmp_path: Path) -> None:
    info = probe_media(write_film(tmp_path / "silent.mp4", plain(["red"], 10), 10))
    assert (info.media_type, info.audio, info.audio_index) == ("video", (), None)


@pytest.mark.parametrize(
    "suffix", ["mp3", "flac", "m4a", "ogg", "wav", "opus", "aac", "mka", "aiff", "ac3", "wma", "caf"]
)
def test_sound_files(suffix: str, tmp_path: Path) -> None:
    info = probe_media(write_sound(tmp_path / f"sound.{suffix}", tone(440, 3)))
    assert (info.media_type, info.video, info.audio_index) == ("audio", None, 0)
    assert info.duration_us == pytest.approx(3_000_000, abs=150_000)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_still_pictures_are_images_without_a_duration(suffix: str, tmp_path: Path) -> None:
    options = {"avif": ("-c:v", "libaom-av1"), "webp": ("-c:v", "libwebp")}.get(suffix, ())
    info = probe_media(write_image(tmp_path / f"still.{suffix}", STILL, "-frames:v", 1, *options))
    assert (info.media_type, info.duration_us, info.audio, info.warnings) == ("image", None, (), ())
    assert info.video is not None
    assert info.video.display_size == (64, 48)


def test_picture_is_recognized_by_its_bytes_despite_its_name(tmp_path: Path) -> None:
    picture = write_image(tmp_path / "still.png", STILL)
    assert probe_media(picture.rename(tmp_path / "film.mp4")).media_type == "image"


def test_animated_gif_is_a_video(tmp_path: Path) -> None:
    info = probe_media(write_image(tmp_path / "moving.gif", plain(["red", "green", "blue"], 5)))
    assert (info.media_type, info.duration_us) == ("video", 3_000_000)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_rotation_is_clockwise_as_a_player_turns_it(turn: int, colour_film: Path, tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", -turn, "-i", colour_film, "-c", "copy", path)
    video = probe_media(path).video
    assert video is not None
    assert (video.rotation_degrees, video.width, video.height) == (turn, 160, 90)
    assert video.display_size == ((90, 160) if turn in (90, 270) else (160, 90))


def test_orientation_of_a_photograph_is_read(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    image = pillow.fromarray(STILL[0])
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn clockwise
    image.save(tmp_path / "photo.jpg", exif=exif)
    video = probe_media(tmp_path / "photo.jpg").video
    assert video is not None
    assert (video.rotation_degrees, video.display_size) == (90, (48, 64))


def test_duration_with_a_variable_frame_rate(tmp_path: Path) -> None:
    source = write_film(tmp_path / "even.mp4", plain(["red", "green", "blue"], 1), 1)
    ffmpeg("-i", source, "-vf", "setpts='N*N/TB'", "-fps_mode", "vfr", *X264, tmp_path / "uneven.mkv")
    duration_us = probe_media(tmp_path / "uneven.mkv").duration_us
    assert duration_us == pytest.approx(5_000_000, abs=1_100_000)


def test_default_track_is_used_and_reported(tmp_path: Path) -> None:
    languages = ("-metadata:s:a:0", "language=deu", "-metadata:s:a:1", "language=fra")
    default = ("-disposition:a:0", "0", "-disposition:a:1", "default")
    sound = [tone(300, 2), tone(900, 2)]
    info = probe_media(write_film(tmp_path / "t.mkv", plain(["red"], 20), 10, *languages, *default, sound=sound))
    assert info.audio_index == 2
    assert [(track.index, track.language, track.is_default) for track in info.audio] == [
        (1, "deu", False),
        (2, "fra", True),
    ]
    assert info.warnings == (MediaWarning("several_audio_tracks", "2 audio tracks; using track 2"),)


def test_without_a_default_the_first_track_is_used(tmp_path: Path) -> None:
    none = ("-disposition:a:0", "0", "-disposition:a:1", "0", "-default_mode", "passthrough")
    sound = [tone(300, 2), tone(900, 2)]
    info = probe_media(write_film(tmp_path / "t.mkv", plain(["red"], 20), 10, *none, sound=sound))
    assert info.audio_index == 1
    assert info.warnings == (MediaWarning("several_audio_tracks", "2 audio tracks; using track 1"),)


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "flac"])
def test_cover_art_does_not_make_a_video(suffix: str, tmp_path: Path) -> None:
    cover = write_image(tmp_path / "cover.png", STILL)
    sound = write_sound(tmp_path / "s.wav", tone(440, 2))
    picture = ("-map", 0, "-map", 1, "-c:v", "copy", "-disposition:v:0", "attached_pic")
    ffmpeg("-i", sound, "-i", cover, *picture, tmp_path / f"song.{suffix}")
    info = probe_media(tmp_path / f"song.{suffix}")
    assert (info.media_type, info.video) == ("audio", None)
    assert info.duration_us == pytest.approx(2_000_000, abs=100_000)


def streamed(source: Path, *options: object) -> bytes:
    """Return a file whose writer could not seek back to fill in the header."""
    return ffmpeg("-i", source, *options, "-")


WITHOUT_DURATION: dict[str, tuple[object, ...]] = {
    "webm": ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus", "-f", "webm"),
    "flac": ("-vn", "-c:a", "flac", "-f", "flac"),
    "h264": ("-an", "-c:v", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "h264"),
}


@pytest.mark.parametrize("suffix", WITHOUT_DURATION)
def test_header_without_a_duration_is_reported(suffix: str, colour_film: Path, tmp_path: Path) -> None:
    path = tmp_path / f"streamed.{suffix}"
    path.write_bytes(streamed(colour_film, *WITHOUT_DURATION[suffix]))
    info = probe_media(path)
    assert info.duration_us is None
    assert info.warnings == (MediaWarning("duration_unknown", "the header does not declare a duration"),)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("ts", ("-c", "copy", "-f", "mpegts")),
        ("mp3", ("-vn", "-write_xing", 0, "-id3v2_version", 0, "-f", "mp3")),
        ("mp4", ("-c", "copy", "-movflags", "frag_keyframe+empty_moov", "-f", "mp4")),
    ],
)
def test_duration_missing_from_the_header_comes_from_the_streams(
    suffix: str, options: tuple[object, ...], colour_film: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"streamed.{suffix}"
    path.write_bytes(streamed(colour_film, *options))
    assert probe_media(path).duration_us == pytest.approx(4_000_000, abs=150_000)


def test_video_over_the_pixel_limit_is_rejected(tmp_path: Path) -> None:
    path = write_film(tmp_path / "v.mp4", plain(["red"], 5, (64, 48)), 5)
    assert probe_media(path, MediaLimits(max_pixels=64 * 48, max_image_pixels=1)).video is not None
    error = probe_error(path, MediaLimits(max_pixels=64 * 48 - 1))
    assert error.code == "media_too_large"
    assert "64x48" in error.message


def test_item_over_the_maximum_duration_is_rejected(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "long.flac", silence(8))
    assert probe_media(sound, MediaLimits(max_duration_s=8)).duration_us == 8_000_000
    error = probe_error(sound, MediaLimits(max_duration_s=7.9))
    assert error.code == "media_too_large"
    assert "duration 0:08.00 exceeds the limit of 0:07.90" in error.message


def test_small_file_that_lasts_for_days_is_rejected(tmp_path: Path) -> None:
    path = write_film(tmp_path / "slow.mp4", plain(["red"], 10), 0.0002)
    error = probe_error(path)
    assert error.code == "media_too_large"
    assert "exceeds the limit of 12:00:00.00" in error.message


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda path: path, "media_not_found", "No such file"),
        (lambda path: path.mkdir(), "media_not_found", "not a regular file"),
        (lambda path: os.mkfifo(path), "media_not_found", "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "media_not_found", "not a regular file"),
        (lambda path: path.symlink_to(path), "media_not_found", "symbolic links"),
        (lambda path: path.symlink_to(path.parent / "gone"), "media_not_found", "No such file"),
        (lambda path: path.write_bytes(b""), "media_empty", "copy it again"),
        (lambda path: path.write_text("Minutes of the meeting\n" * 9), "media_unsupported", "a text file"),
        (lambda path: path.write_text("#EXTM3U\nhttp://x/y.ts\n"), "media_unsupported", "references other files"),
        (lambda path: path.write_bytes(bytes(5000)), "media_unsupported", "not a supported media format"),
    ],
    ids="missing folder fifo device loop dangling empty text playlist zeros".split(),
)
def test_non_media_is_rejected_with_the_reason(
    make: Callable[[Path], object], code: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    make(path)
    error = probe_error(path)
    assert error.code == code
    assert words in error.message


def test_path_through_a_file_and_long_name_are_rejected(colour_film: Path, tmp_path: Path) -> None:
    assert probe_error(colour_film / "inside.mp4").code == "media_not_found"
    assert probe_error(tmp_path / ("x" * 300)).code == "media_not_found"


@pytest.mark.skipif(os.geteuid() == 0, reason="every file is readable to root")
def test_unreadable_file_is_rejected(tmp_path: Path) -> None:
    path = write_image(tmp_path / "still.png", STILL)
    path.chmod(0)
    error = probe_error(path)
    assert error.code == "media_not_found"
    assert "check its permissions" in error.message


def test_mp4_truncated_before_its_index_is_corrupt(colour_film: Path, tmp_path: Path) -> None:
    content = colour_film.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(content[: content.index(b"moov") - 4])
    error = probe_error(path)
    assert error.code == "media_corrupt"
    assert "index" in error.message


def test_file_with_only_subtitles_has_no_streams(tmp_path: Path) -> None:
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nHello\n")
    ffmpeg("-i", tmp_path / "words.srt", tmp_path / "words.mkv")
    assert probe_error(tmp_path / "words.mkv").code == "media_no_streams"


NAMES = (
    "with space.mp4",
    'it\'s "quoted".mp4',
    "100%d %03d.mp4",
    "a:b.mp4",
    "-i.mp4",
    "ünï 日本 🎬.mp4",
    "http:x.mp4",
    "concat:a|b.mp4",
    "$HOME `id`.mp4",
    "line\nbreak.mp4",
    "[0:v]\\;,=.mp4",
)


@pytest.mark.parametrize("name", NAMES)
def test_any_file_name_works(name: str, colour_film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).symlink_to(colour_film)
    for path in (Path(name), tmp_path / name):
        info = probe_media(path)
        assert (info.path, info.duration_us) == (str(path), 4_000_000)


def test_pictures_with_numbered_names_are_not_a_sequence(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_image(tmp_path / f"shot{number}.png", STILL)
    picture = (tmp_path / "shot1.png").rename(tmp_path / "shot%d.png")
    info = probe_media(picture)
    assert (info.media_type, info.container) == ("image", "png_pipe")


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xff\xd8\xff\xe0", "jpeg_pipe"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp_pipe"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"GIF89a", None),
        (b"\0\0\0\x20ftypisom", None),
        (b"", None),
    ],
)
def test_picture_format_is_recognized_by_the_first_bytes(head: bytes, name: str | None) -> None:
    assert picture_format(head) == name


def test_real_files(real_media: Callable[[str], Path]) -> None:
    film: MediaInfo = probe_media(real_media("big_buck_bunny_0_30.webm"))
    assert film.video is not None
    assert (film.media_type, film.video.codec, film.video.display_size) == ("video", "vp8", (1280, 720))
    assert film.duration_us == pytest.approx(30_000_000, abs=200_000)
    speech = probe_media(real_media("jfk.flac"))
    assert speech.media_type == "audio"
    assert speech.duration_us == pytest.approx(11_000_000, abs=100_000)
    assert np.prod(film.video.display_size) == 921_600
