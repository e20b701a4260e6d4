"""Decoded streams compared with the header."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreel.media.decode_checks import DecodedStreams, DecodeVerdict, check_decoded
from promptreel.schemas.media import AudioStream, MediaInfo, VideoStream

SECOND = 1_000_000


def film(declared_us: int | None, frame_count: int | None = None, **more: Any) -> MediaInfo:
    video = VideoStream(0, "h264", 320, 180, frame_rate=25.0, frame_count=frame_count)
    return MediaInfo("/f.mp4", "video", "mp4", 1, declared_us, video, **more)


def sound(declared_us: int | None, start_us: int = 0, **more: Any) -> MediaInfo:
    end_us = None if declared_us is None else declared_us
    track = AudioStream(0, "aac", 44100, 1, start_us=start_us, end_us=end_us)
    return MediaInfo("/f.m4a", "audio", "m4a", 1, declared_us, None, (track,), 0, **more)


def frames(end_us: int, filled_us: int | None = None, **more: Any) -> DecodedStreams:
    filled_us = end_us if filled_us is None else filled_us
    return DecodedStreams(end_us, 0, filled_us, 0, max(1, filled_us // 40_000), **more)


def samples(end_us: int, filled_us: int | None = None, **more: Any) -> DecodedStreams:
    return DecodedStreams(0, end_us, 0, end_us if filled_us is None else filled_us, 0, **more)


def codes(verdict: DecodeVerdict) -> list[str]:
    return [warning.code for warning in verdict.warnings]


@pytest.mark.parametrize(
    ("info", "decoded", "duration_us", "expected"),
    [
        (film(None), frames(5 * SECOND), 5 * SECOND, []),
        (film(10 * SECOND), frames(9_960_000), 10 * SECOND, []),
        (film(10 * SECOND), frames(10_400_000), 10 * SECOND, []),
        # The last frame may be shown until the end, unless frames are known to be missing.
        (film(10 * SECOND), frames(3 * SECOND), 10 * SECOND, []),
        (film(10 * SECOND, 250), frames(3 * SECOND, video_packets=75), 3 * SECOND, ["truncated"]),
        (film(10 * SECOND, 250), frames(9_900_000, video_packets=248), 10 * SECOND, []),
        (film(10 * SECOND), frames(3 * SECOND, decode_errors=1), 3 * SECOND, ["decode_errors", "truncated"]),
        (film(10 * SECOND), frames(3 * SECOND, ended_early=True), 3 * SECOND, ["decoder_ended_early", "truncated"]),
        (film(10 * SECOND, is_cut_off=True), frames(3 * SECOND), 3 * SECOND, ["truncated"]),
        (film(10 * SECOND, is_cut_off=True), frames(10 * SECOND), 10 * SECOND, ["truncated"]),
        # Longer than declared: frames are evidence, timestamps are not.
        (film(10 * SECOND), frames(12 * SECOND), 12 * SECOND, ["duration_mismatch"]),
        (film(1478 * SECOND), frames(49_898 * SECOND, 1478 * SECOND), 1478 * SECOND, ["timestamps_unreliable"]),
        (film(10 * SECOND), frames(90 * SECOND, 20 * SECOND), 20 * SECOND, ["timestamps_unreliable"]),
        # Sound.
        (sound(4 * SECOND), samples(3 * SECOND), 3 * SECOND, ["truncated"]),
        (sound(4 * SECOND), samples(3_800_000), 4 * SECOND, []),
        (sound(3600 * SECOND), samples(3585 * SECOND), 3600 * SECOND, []),
        (sound(3600 * SECOND), samples(3581 * SECOND), 3581 * SECOND, ["truncated"]),
        (sound(10 * SECOND), samples(10 * SECOND, 8 * SECOND), 10 * SECOND, ["audio_gaps"]),
        (sound(10 * SECOND, 2 * SECOND), samples(10 * SECOND, 8 * SECOND), 10 * SECOND, []),
        # A duration estimated from the bit rate is replaced by the decoded one.
        (sound(10 * SECOND, duration_is_estimate=True), samples(7 * SECOND), 7 * SECOND, []),
        (sound(10 * SECOND, duration_is_estimate=True), samples(13 * SECOND), 13 * SECOND, []),
    ],
)
def test_duration_and_warnings(info: MediaInfo, decoded: DecodedStreams, duration_us: int, expected: list[str]) -> None:
    verdict = check_decoded(info, decoded)
    assert (verdict.duration_us, codes(verdict)) == (duration_us, expected)
    assert verdict.truncated == ("truncated" in expected)


def test_sound_shorter_than_the_video_is_reported() -> None:
    track = AudioStream(1, "aac", 44100, 1, end_us=10 * SECOND)
    info = film(10 * SECOND, audio=(track,), audio_index=1)
    verdict = check_decoded(info, DecodedStreams(10 * SECOND, 7 * SECOND, 10 * SECOND, 7 * SECOND, 250))
    assert (verdict.duration_us, verdict.truncated, verdict.damaged_share) == (10 * SECOND, True, 0.3)
    assert verdict.warnings[0].message == "the sound declares 10.0 s, but only 7.0 s can be decoded"


def test_damaged_share_is_the_larger_of_missing_and_concealed() -> None:
    decoded = DecodedStreams(10 * SECOND, 0, 10 * SECOND, 0, 200, decode_errors=60, concealed_frames=50)
    assert check_decoded(film(10 * SECOND), decoded).damaged_share == 0.25
    assert check_decoded(sound(4 * SECOND), samples(3 * SECOND)).damaged_share == 0.25


@pytest.mark.parametrize("damage", [{"decode_errors": 1}, {"jpeg_end_missing": True}])
def test_damage_of_an_image_is_complete(damage: dict[str, Any]) -> None:
    info = MediaInfo("/p.jpg", "image", "jpeg_pipe", 1, None, VideoStream(0, "mjpeg", 10, 10))
    clean = check_decoded(info, DecodedStreams(0, 0, 0, 0, 1))
    assert clean == DecodeVerdict(0, False, 0.0, ())
    verdict = check_decoded(info, DecodedStreams(0, 0, 0, 0, 1, **damage))
    assert (verdict.duration_us, verdict.damaged_share) == (0, 1.0)
    assert codes(verdict) == ["decode_errors" if "decode_errors" in damage else "truncated"]


TIMES = st.integers(0, 10**11)


@given(st.none() | st.integers(1, 10**11), TIMES, TIMES, st.booleans(), st.booleans(), st.integers(0, 3))
def test_duration_is_declared_decoded_or_filled(
    declared: int | None, end_us: int, filled_us: int, cut: bool, estimate: bool, errors: int
) -> None:
    filled_us = min(filled_us, end_us)
    info = film(declared, is_cut_off=cut, duration_is_estimate=estimate)
    verdict = check_decoded(info, frames(end_us, filled_us, decode_errors=errors))
    assert verdict.duration_us in (declared, end_us, filled_us)
    assert 0 <= verdict.damaged_share <= 1
    # Timestamps alone never extend an item.
    assert verdict.duration_us <= max(1.5 * declared if declared is not None else end_us, 2 * filled_us) + SECOND // 2
