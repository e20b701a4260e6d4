"""Sound of the decode pass: rate, track, channels and start times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import COLOUR_FILM
from tests.media.decode_pass import EVERY_FRAME, Decode, onset_s
from tests.media_files import (
    RATE,
    ffmpeg,
    loudest_hertz,
    plain,
    read_sound,
    silence,
    tone,
    write_film,
    write_sound,
)

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.mark.parametrize("suffix", ["mp3", "flac", "m4a", "ogg", "wav", "opus"])
def test_sound_is_16_khz_with_its_length_and_pitch(suffix: str, decoded: Decode, tmp_path: Path) -> None:
    got = decoded(write_sound(tmp_path / f"s.{suffix}", tone(440, 3), "-ar", 48_000, "-ac", 2))
    assert len(got.sound) == pytest.approx(3 * RATE, abs=RATE // 100)
    assert loudest_hertz(got.sound) == pytest.approx(440, abs=1)
    assert got.media.duration_us == pytest.approx(3_000_000, abs=20_000)
    assert (got.media.frames, got.media.frame_count, got.media.audio_file) == ((), 0, "audio.flac")
    np.testing.assert_array_equal(read_sound(got.folder / "audio.flac"), got.sound)


def test_default_track_is_decoded(decoded: Decode, tmp_path: Path) -> None:
    sound = [tone(300, 3), tone(900, 3), tone(2000, 3)]
    default = ("-disposition:a", "0", "-disposition:a:1", "default")
    got = decoded(write_film(tmp_path / "t.mkv", plain(["red"], 30), 10, *default, sound=sound))
    assert loudest_hertz(got.sound) == pytest.approx(900, abs=1)


def test_channels_are_mixed_to_mono(decoded: Decode, tmp_path: Path) -> None:
    write_sound(tmp_path / "left.wav", tone(400, 2))
    write_sound(tmp_path / "right.wav", tone(1000, 2))
    joined = ("-filter_complex", "[0:a][1:a]amerge=inputs=2")
    ffmpeg("-i", tmp_path / "left.wav", "-i", tmp_path / "right.wav", *joined, tmp_path / "both.flac")
    power = np.abs(np.fft.rfft(decoded(tmp_path / "both.flac").sound.astype(float)))
    assert set(np.argsort(power)[-2:].tolist()) == {800, 2000}  # half a hertz each


def test_late_sound_preserves_its_time(decoded: Decode, tmp_path: Path) -> None:
    film = write_film(tmp_path / "f.mp4", plain(COLOUR_FILM, 25), 25, sound=[tone(440, 2)])
    late = ("-itsoffset", 1.5, "-i", film, "-map", "0:v", "-map", "1:a", "-c", "copy")
    for suffix in ("mp4", "mkv"):
        ffmpeg("-i", film, *late, tmp_path / f"late.{suffix}")
        got = decoded(tmp_path / f"late.{suffix}")
        assert onset_s(got.sound) == pytest.approx(1.5, abs=0.05)
        assert onset_s(read_sound(got.folder / "audio.flac")) == pytest.approx(1.5, abs=0.05)
        assert got.media.duration_us == pytest.approx(4_000_000, abs=30_000)


def test_late_pictures_preserve_their_time(decoded: Decode, tmp_path: Path) -> None:
    film = write_film(tmp_path / "f.mp4", plain(COLOUR_FILM, 25), 25, *EVERY_FRAME, sound=[tone(440, 5)])
    late = ("-itsoffset", 1.5, "-i", film, "-map", "1:v", "-map", "0:a", "-c", "copy")
    ffmpeg("-i", film, *late, tmp_path / "late.mp4")
    got = decoded(tmp_path / "late.mp4")
    assert got.times_us[0] == 1_500_000
    assert got.sampled[0] == (1_500_000, "red")
    assert onset_s(got.sound) == pytest.approx(0, abs=0.05)


def test_gap_in_the_sound_does_not_shift_later_sound(decoded: Decode, tmp_path: Path) -> None:
    gap = ("-af", "aselect='not(between(t,1,2.5))'", "-c:a", "pcm_s16le")
    write_sound(tmp_path / "gap.mkv", np.concatenate([tone(440, 3), silence(1), tone(1000, 1)]), *gap)
    sound = decoded(tmp_path / "gap.mkv").sound
    assert len(sound) == pytest.approx(5 * RATE, abs=RATE // 20)
    assert loudest_hertz(sound[4 * RATE :]) == pytest.approx(1000, abs=2)
    assert np.abs(sound[int(1.2 * RATE) : int(2.3 * RATE)]).max() < 100
