"""Files whose size, rate or channels change: times, lengths and the shape of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.media.decode_pass import Decode, image_size
from tests.media_files import (
    RATE,
    Pictures,
    Sound,
    colour_of,
    plain,
    read_sound,
    silence,
    sounding_s,
    tone,
    write_changing_film,
)

pytestmark = pytest.mark.usefixtures("leaves_nothing")

STEREO = ("-ar", 44_100, "-ac", 2)

SMALL, WIDE, TALL = (160, 120), (320, 180), (120, 240)


def part_of(
    start_s: float, colour: str, size: tuple[int, int], *options: object
) -> tuple[float, Pictures, Sound, tuple[object, ...]]:
    """Return 3 s of a colour with a tone from 1 s to 2 s: (start, pictures, sound, ffmpeg options)."""
    sound = np.concatenate([silence(1), tone(440, 1), silence(1)])
    return start_s, plain([colour], 75, size), sound, options


@pytest.mark.parametrize("later_s", [3.1, 6.0], ids=["at once", "after a gap"])
@pytest.mark.parametrize(
    ("size", "options"),
    [
        (SMALL, STEREO),
        (WIDE, STEREO),
        (SMALL, ("-ar", 22_050, "-ac", 2)),
        (SMALL, ("-ar", 44_100, "-ac", 1)),
        (SMALL, ("-ar", 48_000, "-ac", 6, "-c:a", "ac3")),
        (TALL, ("-ar", 22_050, "-ac", 1)),
        (SMALL, (*STEREO, "-pix_fmt", "yuv444p")),
        (SMALL, (*STEREO, "-color_range", "pc", "-vf", "scale=out_range=pc:out_color_matrix=bt709")),
    ],
    ids=["nothing", "size", "sample rate", "channels", "six channels", "all", "pixel format", "colour range"],
)
def test_times_stay_correct_when_parameters_change(
    size: tuple[int, int], options: tuple[object, ...], later_s: float, decoded: Decode, tmp_path: Path
) -> None:
    first = STEREO if "ac3" not in options else (*STEREO, "-c:a", "ac3")
    parts = part_of(0, "red", SMALL, *first), part_of(later_s, "green", size, *options)
    got = decoded(write_changing_film(tmp_path / "f.ts", *parts))
    end_s = later_s + 3
    expected = [
        pytest.approx((start, start + 1), abs=0.12) for start in (1, later_s + 1)
    ]  # gaps below 0.1 s are not filled
    assert sounding_s(got.sound) == expected
    assert sounding_s(read_sound(got.folder / "audio.flac")) == expected
    assert len(got.sound) / RATE == pytest.approx(end_s, abs=0.12)
    assert got.media.duration_us / 1e6 == pytest.approx(end_s, abs=0.12)
    assert np.diff(got.times_us).min() > 0
    assert got.times_us[-1] / 1e6 == pytest.approx(end_s - 0.04, abs=0.12)
    assert {name for time_us, name in got.sampled if time_us < 2_900_000} == {"red"}
    assert {name for time_us, name in got.sampled if time_us > (later_s + 0.1) * 1e6} == {"green"}
    assert colour_of(got.frames[10]) == "red"
    assert colour_of(got.frames[-10]) == "green"


@pytest.mark.parametrize(
    ("first", "later", "shown"),
    [
        (SMALL, WIDE, (160, 90)),
        (SMALL, TALL, (60, 120)),
        (WIDE, SMALL, (240, 180)),
        (SMALL, (320, 240), SMALL),
        ((161, 91), (161, 91), (162, 92)),
    ],
)
def test_pictures_of_another_size_are_letterboxed_undistorted(
    first: tuple[int, int], later: tuple[int, int], shown: tuple[int, int], decoded: Decode, tmp_path: Path
) -> None:
    odd = ("-pix_fmt", "yuv444p")
    parts = part_of(0, "blue", first, *STEREO, *odd), part_of(3.1, "white", later, *STEREO, *odd)
    got = decoded(write_changing_film(tmp_path / "f.ts", *parts))
    even = tuple(side + side % 2 for side in first)
    assert {image_size(got.folder / frame.file) for frame in got.media.frames} == {even}
    last = got.picture(len(got.media.frames) - 1).astype(int).mean(axis=2)
    rows, columns = np.flatnonzero(last.mean(axis=1) > 60), np.flatnonzero(last.mean(axis=0) > 60)
    assert (columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1) == pytest.approx(shown, abs=2)
    assert columns[0] == pytest.approx((even[0] - shown[0]) / 2, abs=2)
    assert rows[0] == pytest.approx((even[1] - shown[1]) / 2, abs=2)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("resolution_change.ts", 9.96), ("sound_change.ts", 9.96), ("colour_change_concat.mp4", 10.08)],
)
def test_real_files_whose_parameters_change(
    name: str, seconds: float, decoded: Decode, real_media: Callable[[str], Path]
) -> None:
    got = decoded(real_media(f"hard/{name}"))
    assert got.media.duration_us / 1e6 == pytest.approx(seconds, abs=0.05)
    assert len(got.sound) / RATE == pytest.approx(seconds, abs=0.05)
    assert len(read_sound(got.folder / "audio.flac")) == len(got.sound)
    assert got.times_us[-1] / 1e6 == pytest.approx(seconds - 0.06, abs=0.05)
