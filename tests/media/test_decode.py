"""Frames and pictures of the decode pass, on films with known pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from promptreel.media.probe import probe_media
from promptreel.media.shots import FeatureBuilder, detect_transitions
from promptreel.media.stills import MAX_IMAGE_SIDE
from tests.conftest import COLOUR_FILM
from tests.media.decode_pass import EVERY_FRAME, Decode, DecodePass, image_size
from tests.media_files import (
    RATE,
    X264,
    colour_of,
    ffmpeg,
    halves,
    plain,
    textured,
    write_film,
    write_image,
)

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_every_frame_comes_with_its_time_and_colour(decoded: Decode, tmp_path: Path) -> None:
    path = write_film(tmp_path / "f.mp4", plain(COLOUR_FILM, 25), 25, *EVERY_FRAME)
    got = decoded(path)
    assert got.times_us.tolist() == [number * 40_000 for number in range(100)]
    assert [colour_of(frame) for frame in got.frames] == [name for name in COLOUR_FILM for _ in range(25)]
    assert (got.media.frame_count, got.media.duration_us, got.media.truncated) == (100, 4_000_000, False)
    assert (got.media.audio_file, got.media.warnings, len(got.sound)) == (None, (), 0)


def test_one_picture_per_second_is_sampled_with_its_time(decoded: Decode, tmp_path: Path) -> None:
    got = decoded(write_film(tmp_path / "f.mp4", plain(COLOUR_FILM, 25), 25, *EVERY_FRAME))
    assert got.sampled == [(number * 1_000_000, name) for number, name in enumerate(COLOUR_FILM)]
    assert sorted(path.name for path in (got.folder / "frames").iterdir()) == [f"0000000{n}.jpg" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("rate", "expected_s"),
    [
        (2, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]),
        (0.5, [0, 2]),
        (0.1, [0]),
        (5, [number / 5 for number in range(20)]),
    ],
)
def test_sampling_rate_follows_the_settings(
    rate: float, expected_s: list[float], decoded: Decode, tmp_path: Path
) -> None:
    path = write_film(tmp_path / "f.mp4", plain(COLOUR_FILM, 20), 20, *EVERY_FRAME)
    frames = decoded(path, frames_per_second=rate).media.frames
    assert [frame.time_us for frame in frames] == [round(time_s * 1_000_000) for time_s in expected_s]


def test_slow_video_is_sampled_once_per_picture(decoded: Decode, tmp_path: Path) -> None:
    path = write_film(tmp_path / "f.mp4", plain(COLOUR_FILM, 1), 0.5, *EVERY_FRAME)
    got = decoded(path)
    assert got.sampled == [(number * 2_000_000, name) for number, name in enumerate(COLOUR_FILM)]
    assert got.media.duration_us == 8_000_000


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((160, 90), (854, 480), (160, 90)),
        ((1280, 720), (854, 480), (854, 480)),
        ((360, 640), (854, 480), (270, 480)),
        ((640, 64), (100, 100), (100, 10)),
        ((162, 94), (854, 480), (162, 94)),
    ],
)
def test_pictures_fit_the_box_without_enlargement(
    size: tuple[int, int], box: tuple[int, int], expected: tuple[int, int], decoded: Decode, tmp_path: Path
) -> None:
    path = write_film(tmp_path / "f.mp4", plain(["red"], 3, size), 3)
    got = decoded(path, max_width=box[0], max_height=box[1])
    assert image_size(got.folder / got.media.frames[0].file) == expected


@pytest.mark.parametrize(("ratio", "expected"), [("2/1", (320, 90)), ("1/2", (80, 90)), ("8/1", (854, 60))])
def test_non_square_pixels_become_square(
    ratio: str, expected: tuple[int, int], decoded: Decode, tmp_path: Path
) -> None:
    path = write_film(tmp_path / "f.mp4", plain(["red"], 3), 3, "-vf", f"setsar={ratio}")
    got = decoded(path)
    picture = got.folder / got.media.frames[0].file
    assert image_size(picture) == expected
    av = pytest.importorskip("av")
    with av.open(str(picture)) as container:
        assert container.streams.video[0].sample_aspect_ratio in (None, 0, 1)


@pytest.mark.parametrize(
    ("turn", "size", "first_half"),
    [(0, (160, 90), "top"), (90, (90, 160), "right"), (180, (160, 90), "bottom"), (270, (90, 160), "left")],
)
def test_rotation_is_applied_to_both_kinds_of_frames(
    turn: int, size: tuple[int, int], first_half: str, decoded: Decode, tmp_path: Path
) -> None:
    upright = write_film(tmp_path / "f.mp4", np.repeat(halves("red", "blue", (160, 90)), 5, axis=0), 5)
    ffmpeg("-display_rotation", -turn, "-i", upright, "-c", "copy", tmp_path / "t.mp4")
    got = decoded(tmp_path / "t.mp4")
    assert image_size(got.folder / got.media.frames[0].file) == size
    for picture in (got.picture(0), got.frames[0]):
        height, width = picture.shape[:2]
        parts = {
            "top": picture[: height // 2],
            "bottom": picture[height // 2 :],
            "left": picture[:, : width // 2],
            "right": picture[:, width // 2 :],
        }
        assert [side for side, part in parts.items() if colour_of(part) == "red" and side == first_half]


def test_variable_frame_rate_preserves_times(decoded: Decode, tmp_path: Path) -> None:
    even = write_film(tmp_path / "e.mp4", plain(COLOUR_FILM, 1), 1)
    uneven = ("-vf", "settb=1/1000,setpts='N*N*0.5/TB'", "-fps_mode", "vfr", "-enc_time_base", "1/1000")
    ffmpeg("-i", even, *uneven, *X264, tmp_path / "v.mkv")
    got = decoded(tmp_path / "v.mkv")
    assert got.times_us.tolist() == [0, 500_000, 2_000_000, 4_500_000]
    assert got.sampled == [(0, "red"), (2_000_000, "blue"), (4_500_000, "yellow")]


def cuts_of(got: DecodePass) -> list[int]:
    features = FeatureBuilder()
    features.add(got.frames, got.times_us)
    return [transition.at_us for transition in detect_transitions(features.build())]


@pytest.mark.parametrize("encoder", [X264, ("-c:v", "libx265", "-x265-params", "log-level=0")], ids=["h264", "hevc"])
def test_unreferenced_frames_are_skipped_without_losing_a_cut(
    encoder: tuple[str, ...], decoded: Decode, tmp_path: Path
) -> None:
    got = decoded(write_film(tmp_path / "f.mp4", textured(5, 40), 25, "-bf", 3, encoder=encoder))
    assert 40 < got.media.frame_count < 150, "a share of 200 frames"
    assert cuts_of(got) == [pytest.approx(shot * 1_600_000, abs=130_000) for shot in (1, 2, 3, 4)]
    assert got.media.duration_us == 8_000_000


def test_all_frames_are_decoded_if_skipping_leaves_wide_gaps(decoded: Decode, tmp_path: Path) -> None:
    sparse = ("-bf", 3, "-x264-params", "b-adapt=0:b-pyramid=none")
    path = write_film(tmp_path / "f.mp4", textured(2, 20), 10, *sparse)
    video = probe_media(path).video
    assert video is not None
    assert video.has_b_frames
    assert decoded(path).media.frame_count == 40


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff"])
def test_image_has_one_picture_and_no_duration(suffix: str, decoded: Decode, tmp_path: Path) -> None:
    picture = write_image(tmp_path / f"p.{suffix}", halves("red", "blue", (120, 80)), "-frames:v", 1)
    got = decoded(picture)
    assert (got.media.duration_us, got.media.frame_count, got.media.audio_file) == (0, 1, None)
    assert got.media.warnings == ()
    assert [frame.time_us for frame in got.media.frames] == [0]
    assert [colour_of(half) for half in np.split(got.picture(0), 2)] == ["red", "blue"]


def test_large_image_is_scaled_down_in_proportion(decoded: Decode, tmp_path: Path) -> None:
    got = decoded(write_image(tmp_path / "p.png", plain(["red"], 1, (3200, 800))))
    assert image_size(got.folder / got.media.frames[0].file) == (MAX_IMAGE_SIDE, MAX_IMAGE_SIDE // 4)


def test_grey_and_transparent_and_tiny_images_are_read(decoded: Decode, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for number, shape in enumerate([(1, 1), (31, 17, 4), (40, 40, 3)]):
        pillow.fromarray(np.full(shape, 128, np.uint8)).save(tmp_path / f"{number}.png")
        assert len(decoded(tmp_path / f"{number}.png").media.frames) == 1


def test_real_film(decoded: Decode, real_media: Callable[[str], Path]) -> None:
    got = decoded(real_media("big_buck_bunny_0_30.webm"))
    assert len(got.media.frames) == pytest.approx(30, abs=1)
    assert image_size(got.folder / got.media.frames[0].file) == (854, 480)
    assert len(got.sound) / RATE == pytest.approx(30, abs=0.5)
    assert np.diff(got.times_us).min() > 0
