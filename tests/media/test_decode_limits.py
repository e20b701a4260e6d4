"""Limits, cancellation, failures and output files of the decode pass."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from promptreel.media import decoder_limits
from promptreel.media.decode import decode_media
from promptreel.media.probe import probe_media
from promptreel.schemas.errors import MediaError
from promptreel.schemas.settings import MediaLimits, SamplingSettings
from tests.media.decode_pass import EVERY_FRAME, Decode
from tests.media_files import (
    RATE,
    Pictures,
    Sound,
    ffmpeg,
    loudest_hertz,
    plain,
    read_sound,
    silence,
    textured,
    tone,
    write_film,
    write_sound,
)

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_sound_of_a_video_with_corrupt_pictures_is_decoded(decoded: Decode, tmp_path: Path) -> None:
    film = write_film(tmp_path / "f.mkv", textured(2, 20, (96, 64)), 10, sound=[tone(440, 4)])
    broken = tmp_path / "b.mkv"
    ffmpeg("-i", film, "-c", "copy", "-bsf:v", "noise=amount=1", broken)
    got = decoded(broken)
    assert loudest_hertz(got.sound) == pytest.approx(440, abs=1)
    assert got.media.frame_count == 0
    assert "video_not_decoded" in [warning.code for warning in got.media.warnings]
    assert got.media.duration_us == pytest.approx(4_000_000, abs=50_000)


def test_decoding_stops_at_the_maximum_duration(decoded: Decode, tmp_path: Path) -> None:
    streamed = tmp_path / "endless.flac"
    streamed.write_bytes(ffmpeg("-i", write_sound(tmp_path / "s.wav", silence(20)), "-f", "flac", "-"))
    got = decoded(streamed, MediaLimits(max_duration_s=5))
    assert got.media.duration_us == pytest.approx(5_000_000, abs=10_000)


def test_memory_limit_fails_the_pass(decoded: Decode, tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=4096x2160:r=5:d=2", "-c:v", "mpeg4", "-q:v", 9, path)
    assert decoded(path).media.frame_count == 10
    with pytest.raises(MediaError) as caught:
        decoded(path, MediaLimits(decode_memory_bytes=250 << 20))
    assert caught.value.code == "decode_out_of_memory"
    assert str(path) in caught.value.message


def test_deadline_fails_the_pass(decoded: Decode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_limits, "MIN_DEADLINE_S", 0.01)
    path = write_film(tmp_path / "f.mp4", plain(["red"], 50, (640, 360)), 25, *EVERY_FRAME)
    with pytest.raises(MediaError) as caught:
        decoded(path, MediaLimits(decode_deadline_factor=0.001))
    assert caught.value.code == "decode_timeout"
    assert caught.value.retryable


def test_stop_flag_cancels_the_pass(tmp_path: Path) -> None:
    path = write_film(tmp_path / "f.mp4", plain(["red"], 1500, (64, 36)), 25, *EVERY_FRAME)
    counts: list[int] = []
    with pytest.raises(MediaError) as caught:
        decode_media(
            probe_media(path),
            tmp_path,
            SamplingSettings(),
            MediaLimits(),
            lambda frames, times_us: counts.append(len(frames)),
            lambda samples: None,
            lambda: bool(counts),
        )
    assert caught.value.code == "cancelled"
    assert 0 < sum(counts) < 1500


def test_error_of_a_callback_is_raised(colour_film: Path, tmp_path: Path) -> None:
    def fail(samples: Sound) -> None:
        raise RuntimeError("the callback failed")

    def ignore(frames: Pictures, times_us: NDArray[np.int64]) -> None: ...

    with pytest.raises(RuntimeError, match="the callback failed"):
        decode_media(probe_media(colour_film), tmp_path, SamplingSettings(), MediaLimits(), ignore, fail)


def test_only_pictures_and_sound_are_left(decoded: Decode, colour_film: Path, own_temporary_folder: Path) -> None:
    got = decoded(colour_film)
    assert sorted(path.name for path in got.folder.iterdir()) == ["audio.flac", "frames"]
    assert tempfile.gettempdir() == str(own_temporary_folder)
    assert list(own_temporary_folder.iterdir()) == []


@pytest.mark.parametrize("name", ["out %d 100%", 'it\'s "out"', "a:b", "-out", "ünï 日本"])
def test_any_folder_name_works(name: str, colour_film: Path, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    sampling, limits = SamplingSettings(), MediaLimits()
    info = probe_media(colour_film)
    media = decode_media(info, tmp_path / name, sampling, limits, lambda frames, times: None, lambda samples: None)
    assert len(media.frames) == 4
    assert all((tmp_path / name / frame.file).stat().st_size > 0 for frame in media.frames)
    assert len(read_sound(tmp_path / name / "audio.flac")) == 4 * RATE


def test_relative_folder_is_relative_to_this_process(
    colour_film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-a:b").mkdir()
    decode_media(
        probe_media(colour_film), Path("-a:b"), SamplingSettings(), MediaLimits(), lambda f, t: None, lambda s: None
    )
    assert (tmp_path / "-a:b" / "frames" / "00000004.jpg").is_file()
