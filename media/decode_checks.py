"""Compare the decoded streams with the header: determine the duration, and how much is missing or damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from promptreel.schemas.media import MediaInfo
from promptreel.schemas.media_warnings import MediaWarning
from promptreel.schemas.mediatime import US_PER_SECOND, seconds_from_us

# Below these, a difference between declared and decoded length is rounding: priming samples, the unknown display time of
# the last frame, header fields of limited resolution.
_TOLERANCE_US: Final = US_PER_SECOND // 4
_TOLERANCE_SHARE: Final = 0.005
# Error of a duration estimated from the bit rate, for ordinary files with a variable bit rate.
_ESTIMATE_SHARE: Final = 0.5
# More missing frames than this count as missing: some muxers count a trailing empty packet.
_MAX_MISSING_FRAMES: Final = 2
# Share of the timeline that frames or samples must fill for timestamps beyond the declared end to be believed.
_MIN_FILLED: Final = 0.5


@dataclass(frozen=True, slots=True)
class DecodedStreams:
    """The streams of one decode pass, in item time.

    Attributes:
        video_end_us, audio_end_us: end of the last frame and of the last sample; 0 without any.
        video_filled_us, audio_filled_us: time that frames and samples fill, without the gaps between them.
        frame_count: frames decoded.
        video_packets: packets read of the video stream; None if unknown.
        decode_errors: error messages and concealed frames.
        concealed_frames: frames that the decoder marks as damaged.
        messages: the most frequent error messages, on one line.
        ended_early: the decoder stopped with an error.
        jpeg_end_missing: a JPEG ends before its end marker.
    """

    video_end_us: int
    audio_end_us: int
    video_filled_us: int
    audio_filled_us: int
    frame_count: int
    video_packets: int | None = None
    decode_errors: int = 0
    concealed_frames: int = 0
    messages: str = ""
    ended_early: bool = False
    jpeg_end_missing: bool = False

    @property
    def end_us(self) -> int:
        return max(self.video_end_us, self.audio_end_us)


@dataclass(frozen=True, slots=True)
class DecodeVerdict:
    """An item's duration and damage.

    Attributes:
        duration_us: the length to plan segments for; 0 for an image.
        truncated: the file or one of its streams ends before its declared end.
        damaged_share: share of the item, 0..1, that is missing or concealed; 1 for a damaged image, whose damage cannot
            be measured.
    """

    duration_us: int
    truncated: bool
    damaged_share: float
    warnings: tuple[MediaWarning, ...]


def check_decoded(info: MediaInfo, decoded: DecodedStreams, clock_jumps: bool = False) -> DecodeVerdict:
    """Determine an item's duration, and how much of it is missing or damaged.

    Args:
        clock_jumps: the declared duration includes jumps of the recording's clock, and is ignored.
    """
    warnings = list(_decoder_warnings(info, decoded))
    if clock_jumps and info.duration_us is not None:
        declared, end = seconds_from_us(info.duration_us), seconds_from_us(decoded.end_us)
        message = f"the recording's clock jumps: its header declares {declared:.1f} s, but {end:.1f} s were decoded"
        warnings.append(MediaWarning("duration_mismatch", message))
        info = replace(info, duration_us=None, audio=())
    if info.media_type == "image":
        truncated = info.is_cut_off or decoded.jpeg_end_missing
        if truncated:
            warnings.append(MediaWarning("truncated", "the picture ends early; the missing part is blank"))
        is_damaged = truncated or decoded.decode_errors > 0
        return DecodeVerdict(0, truncated, float(is_damaged), tuple(warnings))
    duration_us, length_warnings = _settle_duration(info, decoded)
    missing_us, end_warnings = _missing(info, decoded)
    warnings += length_warnings + end_warnings
    longest_us = max(info.duration_us or 0, duration_us, 1)
    concealed_share = decoded.concealed_frames / max(1, decoded.frame_count)
    share = min(1.0, max(missing_us / longest_us, concealed_share))
    return DecodeVerdict(duration_us, info.is_cut_off or bool(end_warnings), share, tuple(warnings))


def _settle_duration(info: MediaInfo, decoded: DecodedStreams) -> tuple[int, list[MediaWarning]]:
    """Return the declared duration if the streams confirm it, otherwise the decoded one, with warnings.

    The header is exact where the decoded end is not (the display time of the last frame is unknown), so it wins unless the
    two differ by more than rounding. Timestamps that run far beyond the declared end must be filled with frames or
    samples: a file whose timestamps jump must not become hours of segments.
    """
    declared_us, end_us = info.duration_us, decoded.end_us
    if declared_us is None:
        return end_us, []
    tolerance_us = _tolerance_us(declared_us, info.duration_is_estimate)
    if declared_us - end_us > tolerance_us:
        return (declared_us if _last_frame_may_last(info, decoded) else end_us), []
    if end_us - declared_us <= max(tolerance_us, US_PER_SECOND // 2):
        return (end_us if info.duration_is_estimate else declared_us), []
    filled_us = max(decoded.video_filled_us, decoded.audio_filled_us)
    declared, end = seconds_from_us(declared_us), seconds_from_us(end_us)
    if filled_us >= _MIN_FILLED * end_us:
        if info.duration_is_estimate:
            return end_us, []
        message = f"the header declares {declared:.1f} s, but {end:.1f} s were decoded"
        return end_us, [MediaWarning("duration_mismatch", message)]
    message = f"timestamps reach {end:.1f} s, but frames and sound fill {seconds_from_us(filled_us):.1f} s"
    return max(declared_us, filled_us), [MediaWarning("timestamps_unreliable", message)]


def _missing(info: MediaInfo, decoded: DecodedStreams) -> tuple[int, list[MediaWarning]]:
    """Return the microseconds missing at the end of the worst stream, with a `truncated` warning if too many."""
    missing = {
        "the file": (info.duration_us, _missing_at_end_us(info, decoded)),
        "the video": (info.duration_us, _missing_video_us(info, decoded)),
        "the sound": _missing_sound_us(info, decoded),
    }
    worst_us, messages = 0, []
    for what, (declared_us, missing_us) in missing.items():
        if declared_us and missing_us > _tolerance_us(declared_us, info.duration_is_estimate):
            worst_us = max(worst_us, missing_us)
            declared, found = seconds_from_us(declared_us), seconds_from_us(declared_us - missing_us)
            messages.append(f"{what} declares {declared:.1f} s, but only {found:.1f} s can be decoded")
    if info.is_cut_off and not messages:
        messages.append("the file is shorter than the sizes that it declares")
    return worst_us, [MediaWarning("truncated", message) for message in messages[:1]]


def _missing_at_end_us(info: MediaInfo, decoded: DecodedStreams) -> int:
    if info.duration_us is None or _last_frame_may_last(info, decoded):
        return 0
    return max(0, info.duration_us - decoded.end_us)


def _missing_video_us(info: MediaInfo, decoded: DecodedStreams) -> int:
    """Return the duration of the frames that the header counts but the file lacks."""
    declared = info.video.frame_count if info.video is not None else None
    if not declared or not decoded.video_packets or info.duration_us is None:
        return 0
    missing = declared - decoded.video_packets
    return info.duration_us * missing // declared if missing > _MAX_MISSING_FRAMES else 0


def _missing_sound_us(info: MediaInfo, decoded: DecodedStreams) -> tuple[int | None, int]:
    track = info.audio_track
    if track is None or track.end_us is None or decoded.audio_end_us == 0:
        return None, 0
    return track.end_us, max(0, track.end_us - decoded.audio_end_us)


def _last_frame_may_last(info: MediaInfo, decoded: DecodedStreams) -> bool:
    """Whether the last frame may be shown until the declared end, as in a slide show or screen recording."""
    is_clean = decoded.decode_errors == 0 and not decoded.ended_early and not info.is_cut_off
    is_possible = info.video is not None and decoded.frame_count > 0 and not _missing_video_us(info, decoded)
    return is_possible and is_clean and not _ends_together(info, decoded)


def _ends_together(info: MediaInfo, decoded: DecodedStreams) -> bool:
    """Whether frames and sound stop together although the header declares no end of the sound: the file was cut."""
    track = info.audio_track
    if track is None or track.end_us is not None or decoded.audio_end_us == 0:
        return False
    return abs(decoded.audio_end_us - decoded.video_end_us) <= US_PER_SECOND


def _decoder_warnings(info: MediaInfo, decoded: DecodedStreams) -> Iterator[MediaWarning]:
    if info.video is not None and decoded.frame_count == 0:
        yield MediaWarning("video_not_decoded", "no frame could be decoded; only the sound is used")
    if info.audio_index is not None and decoded.audio_end_us == 0:
        yield MediaWarning("audio_not_decoded", "no sound could be decoded")
    if decoded.ended_early:
        yield MediaWarning("decoder_ended_early", f"the decoder stopped early: {decoded.messages or 'no message'}")
    elif decoded.decode_errors:
        concealed = f", {_count(decoded.concealed_frames, 'concealed frame')}" if decoded.concealed_frames else ""
        errors = _count(decoded.decode_errors, "error")
        message = f"the decoder reported {errors}{concealed}: {decoded.messages or 'no message'}"
        yield MediaWarning("decode_errors", message)
    track = info.audio_track
    if track is not None and decoded.audio_end_us:
        gaps_us = decoded.audio_end_us - max(0, track.start_us) - decoded.audio_filled_us
        if gaps_us > _tolerance_us(decoded.audio_end_us, False):
            yield MediaWarning(
                "audio_gaps", f"{seconds_from_us(gaps_us):.1f} s of the sound are missing inside the item"
            )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _tolerance_us(declared_us: int, is_estimate: bool) -> int:
    return round(max(_TOLERANCE_US, (_ESTIMATE_SHARE if is_estimate else _TOLERANCE_SHARE) * declared_us))
