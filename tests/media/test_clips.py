"""Proxy clips, decoded and compared with their sources."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from promptreel.media.clips import MIN_CLIP_US, Clip, make_clip
from promptreel.media.probe import probe_media
from promptreel.schemas.errors import MediaError
from promptreel.schemas.media import TimeSpan
from tests.media_files import (
    RATE,
    colour_of,
    loudest_hertz,
    plain,
    read_pictures,
    read_sound,
    silence,
    tone,
    write_image,
    write_sound,
)

pytestmark = pytest.mark.usefixtures("leaves_nothing")
SECOND = 1_000_000
NAMES = ("red", "green", "blue", "yellow", "white")


@dataclass(frozen=True)
class Item:
    """One picture per second, and sound: silence except a tone in the third second."""

    pictures: tuple[tuple[int, Path], ...]
    sound: Path


@pytest.fixture(scope="module")
def item(tmp_path_factory: pytest.TempPathFactory) -> Item:
    folder = tmp_path_factory.mktemp("item")
    pictures = [
        (number * SECOND, write_image(folder / f"{number}.jpg", plain([name], 1), "-update", 1))
        for number, name in enumerate(NAMES)
    ]
    sound = np.concatenate([silence(2), tone(700, 1), silence(2)])
    return Item(tuple(pictures), write_sound(folder / "audio.flac", sound))


def duration_s(path: Path) -> float:
    duration_us = probe_media(path).duration_us
    assert duration_us is not None
    return duration_us / SECOND


def test_clip_shows_every_picture_and_lasts_as_its_segment(item: Item, tmp_path: Path) -> None:
    out = tmp_path / "clip.mp4"
    clip = make_clip(item.pictures, item.sound, TimeSpan(0, 5 * SECOND), out)
    assert clip == Clip("video/mp4", out.stat().st_size, 5)
    shown = [colour_of(picture) for picture in read_pictures(out, (160, 90))]
    assert shown[:5] == list(NAMES)
    assert set(shown[5:]) <= {NAMES[-1]}
    assert duration_s(out) == pytest.approx(5, abs=0.07)


def test_pictures_are_shown_at_their_item_times(item: Item, tmp_path: Path) -> None:
    """A segment from 0.5 s to 4.2 s whose first picture appears before its start."""
    out = tmp_path / "clip.mp4"
    make_clip(item.pictures, None, TimeSpan(500_000, 4_200_000), out)
    av = pytest.importorskip("av")
    with av.open(str(out)) as container:
        times = [round(float(frame.time), 2) for frame in container.decode(video=0)]
    assert times[:5] == pytest.approx([0, 0.5, 1.5, 2.5, 3.5], abs=0.041)
    assert duration_s(out) == pytest.approx(3.7, abs=0.07)


def test_sound_is_cut_to_the_segment(item: Item, tmp_path: Path) -> None:
    out = tmp_path / "clip.mp4"
    make_clip(item.pictures[1:4], item.sound, TimeSpan(SECOND, 4 * SECOND), out)
    sound = read_sound(out)
    assert len(sound) == pytest.approx(3 * RATE, abs=RATE // 8)
    loud = np.flatnonzero(np.abs(sound.astype(int)) > 3000) / RATE
    assert (loud[0], loud[-1]) == (pytest.approx(1, abs=0.05), pytest.approx(2, abs=0.05))
    assert loudest_hertz(sound[int(1.2 * RATE) : int(1.8 * RATE)]) == pytest.approx(700, abs=3)


def test_clip_without_sound_has_no_audio_track(item: Item, tmp_path: Path) -> None:
    make_clip(item.pictures, None, TimeSpan(0, 5 * SECOND), tmp_path / "clip.mp4")
    assert probe_media(tmp_path / "clip.mp4").audio == ()


def test_clip_without_pictures_is_audio_only(item: Item, tmp_path: Path) -> None:
    out = tmp_path / "clip.m4a"
    clip = make_clip((), item.sound, TimeSpan(2 * SECOND, 3 * SECOND), out)
    assert clip == Clip("audio/mp4", out.stat().st_size, 0)
    info = probe_media(out)
    assert (info.media_type, info.audio[0].channels) == ("audio", 1)
    assert duration_s(out) == pytest.approx(1, abs=0.1)
    assert loudest_hertz(read_sound(out)) == pytest.approx(700, abs=3)


@pytest.mark.parametrize("length_us", [1, 40_000, 300_000, 999_999])
def test_segment_under_a_second_is_stretched_to_one(length_us: int, item: Item, tmp_path: Path) -> None:
    out = tmp_path / "clip.mp4"
    make_clip(item.pictures[2:3], item.sound, TimeSpan(2 * SECOND, 2 * SECOND + length_us), out)
    assert duration_s(out) == pytest.approx(MIN_CLIP_US / SECOND, abs=0.07)
    assert {colour_of(picture) for picture in read_pictures(out, (160, 90))} == {"blue"}


def test_segment_after_the_end_of_the_sound_has_pictures(item: Item, tmp_path: Path) -> None:
    out = tmp_path / "clip.mp4"
    make_clip(item.pictures[4:], item.sound, TimeSpan(7 * SECOND, 9 * SECOND), out)
    assert {colour_of(picture) for picture in read_pictures(out, (160, 90))} == {"white"}
    assert duration_s(out) == pytest.approx(2, abs=0.07)


def test_picture_of_odd_size_loses_at_most_one_line(tmp_path: Path) -> None:
    picture = write_image(tmp_path / "odd.jpg", plain(["green"], 1, (161, 91)), "-update", 1)
    make_clip([(0, picture)], None, TimeSpan(0, 2 * SECOND), tmp_path / "clip.mp4")
    assert colour_of(read_pictures(tmp_path / "clip.mp4", (160, 90))[0]) == "green"


def test_clips_are_deterministic(item: Item, tmp_path: Path) -> None:
    span = TimeSpan(0, 3 * SECOND)
    for name in ("one", "two"):
        make_clip(item.pictures, item.sound, span, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    make_clip(item.pictures, item.sound, span, tmp_path / "three", crf=40)
    assert (tmp_path / "three").read_bytes() != (tmp_path / "one").read_bytes()


def test_index_comes_before_the_data(item: Item, tmp_path: Path) -> None:
    make_clip(item.pictures, item.sound, TimeSpan(0, 3 * SECOND), tmp_path / "clip.mp4")
    content = (tmp_path / "clip.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("name", ["it's %d here", 'a "b" \\ c', "-x:y", "ünï 日本", "a # b"])
def test_any_folder_name_works(name: str, item: Item, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(name)
    folder.mkdir()
    picture = folder / "00000001.jpg"
    picture.write_bytes(item.pictures[0][1].read_bytes())
    sound = folder / "audio.flac"
    sound.write_bytes(item.sound.read_bytes())
    assert make_clip([(0, picture)], sound, TimeSpan(0, SECOND), folder / "clip.mp4").pictures == 1
    assert (tmp_path / name / "clip.mp4").is_file()


def test_neither_picture_nor_sound_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"clip\.mp4: the segment has neither frames nor audio") as caught:
        make_clip((), None, TimeSpan(0, SECOND), tmp_path / "clip.mp4")
    assert caught.value.code == "media_no_streams"


def test_corrupt_picture_is_a_failure_and_leaves_nothing(tmp_path: Path, own_temporary_folder: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with pytest.raises(MediaError) as caught:
        make_clip([(0, tmp_path / "bad.jpg")], None, TimeSpan(0, SECOND), tmp_path / "clip.mp4")
    assert caught.value.code == "decode_failed"
    assert tempfile.gettempdir() == str(own_temporary_folder)
    assert list(own_temporary_folder.iterdir()) == []
