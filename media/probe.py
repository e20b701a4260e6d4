"""What a media file is, read from its header by a bounded child process."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from promptreel.media.bounded import DeadlinePassed, Limits, failure_of, run_bounded
from promptreel.media.ffmpeg import FORMAT_WHITELIST, PROTOCOL_WHITELIST
from promptreel.media.file_structure import is_cut_off
from promptreel.media.stills import probe_still, still_format
from promptreel.schemas.errors import MediaError
from promptreel.schemas.media import AudioStream, MediaInfo, VideoStream
from promptreel.schemas.media_warnings import MediaWarning
from promptreel.schemas.mediatime import format_timecode, seconds_from_us, us_from_seconds
from promptreel.schemas.settings import MediaLimits

PROBE_DEADLINE_S: Final = 30.0
_PROBE_MEMORY_BYTES: Final = 2 << 30
_CHILD: Final = Path(__file__).with_name("probe_child.py")

# First bytes of still pictures, and the demuxer that reads exactly one of them. Without it ffmpeg may take a picture for
# the first of a numbered sequence of files.
_PICTURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\xff\xd8\xff", "jpeg_pipe"),
    (b"\x89PNG\r\n\x1a\n", "png_pipe"),
    (b"BM", "bmp_pipe"),
    (b"II*\x00", "tiff_pipe"),
    (b"MM\x00*", "tiff_pipe"),
    (b"\x00\x00\x00\x0cjP  ", "j2k_pipe"),
    (b"\xff\x4f\xff\x51", "j2k_pipe"),
)
# Formats without a duration field.
_WITHOUT_DURATION: Final = frozenset({"aac", "ac3", "eac3", "dts", "amr", "h264", "hevc", "m4v", "mpegvideo", "mjpeg"})
_MP3_HEADER_BYTES: Final = 1 << 20  # behind a tag with a cover picture
_WEBP_ANIMATION: Final = 0x02  # bit of the flags in the extended header
# Beginnings of texts that name other files: told apart so that the message can say what the file is.
_PLAYLISTS: Final = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"[playlist]", b"v=0")


def probe_media(path: Path, limits: MediaLimits | None = None) -> MediaInfo:
    """Reads a file's header. What it says is a promise; only decoding tells the truth.

    Raises:
        MediaError: the file is missing, empty, no media, or over a limit; the message names it and the fix.
    """
    limits = limits or MediaLimits()
    size = _size_of_regular_file(path)
    head = _first_bytes(path)
    if _is_animated_webp(head):
        message = f"{path}: is an animated WebP, which promptreel does not read; convert it to GIF or MP4"
        raise MediaError("media_unsupported", message)
    if still_format(head) is not None:
        return probe_still(path, head, size, limits)
    picture = picture_format(head)
    found = _ask_child(path, picture, limits, head)
    streams = [stream for stream in found["streams"] if stream["codec"] is not None]
    pictures = [s for s in streams if s["type"] == "video" and not s["attached_picture"]]
    sounds = [s for s in streams if s["type"] == "audio" and s["sample_rate"] > 0 and s["channels"] > 0]
    if not pictures and not sounds:
        raise MediaError("media_no_streams", f"{path}: has neither pictures nor sound that can be decoded")
    is_image = bool(pictures) and not sounds and _is_still(found, pictures[0], picture)
    duration_us = None if is_image else _duration_us(found, streams)
    start_us = 0 if is_image else found["start_us"] or 0
    _check_limits(path, pictures, duration_us, limits)
    return MediaInfo(
        path=str(path),
        media_type="image" if is_image else "video" if pictures else "audio",
        container=found["format"],
        size_bytes=size,
        duration_us=duration_us,
        video=_video_stream(pictures[0], found["rotation"]) if pictures else None,
        audio=tuple(_audio_stream(sound, start_us) for sound in sounds),
        audio_index=_chosen_track(sounds),
        warnings=tuple(_warnings(pictures, sounds, duration_us, is_image)),
        start_us=start_us,
        duration_is_estimate=_is_estimate(path, found["format"]),
        is_cut_off=is_cut_off(path),
    )


def picture_format(head: bytes) -> str | None:
    """ffmpeg's demuxer for a still picture, by its first bytes; None for everything else."""
    for magic, name in _PICTURES:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp_pipe"
    return None


def _is_animated_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & _WEBP_ANIMATION)


def _size_of_regular_file(path: Path) -> int:
    try:
        info = path.stat()
    except OSError as error:
        raise MediaError(
            "media_not_found", f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    if not stat.S_ISREG(info.st_mode):
        raise MediaError("media_not_found", f"{path}: is no regular file; name a media file")
    if info.st_size == 0:
        raise MediaError("media_empty", f"{path}: the file is empty; copy it again from its source")
    return info.st_size


def _first_bytes(path: Path, count: int = 64) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); check its permissions"
        raise MediaError("media_not_found", message) from error


def _ask_child(path: Path, picture: str | None, limits: MediaLimits, head: bytes) -> dict[str, Any]:
    command = [sys.executable, "-I", str(_CHILD), f"file:{path.absolute()}", picture or "-"]
    command += [FORMAT_WHITELIST, PROTOCOL_WHITELIST, str(limits.max_pixels)]
    try:
        done, output = run_bounded(command, Limits(PROBE_DEADLINE_S, _PROBE_MEMORY_BYTES, file_bytes=0))
    except DeadlinePassed as error:
        message = f"{path}: its header could not be read within {PROBE_DEADLINE_S:g} s"
        raise MediaError("decode_timeout", message) from error
    if done.returncode != 0:
        raise failure_of(done, str(path))
    found = json.loads(output)
    if "error" in found:
        raise _refused(path, head, found["error"])
    return dict(found)


def _refused(path: Path, head: bytes, reason: str) -> MediaError:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(_PLAYLISTS):
        kind = "a playlist or another text that names other files"
        return MediaError("media_unsupported", f"{path}: is {kind}, not media; name the media files themselves")
    if head and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        return MediaError(
            "media_unsupported", f"{path}: is a text file, not media; check what was saved under this name"
        )
    if head[4:8] == b"ftyp":
        message = f"{path}: is an MP4 without a readable index ({reason}); it was cut off or damaged, so copy it again"
        return MediaError("media_corrupt", message)
    return MediaError(
        "media_unsupported",
        f"{path}: is not media that promptreel reads, or its header is damaged ({reason}); check that it plays, or convert "
        "it with: ffmpeg -i FILE out.mp4",
    )


def _is_still(found: Mapping[str, Any], video: Mapping[str, Any], picture: str | None) -> bool:
    if picture is not None:
        return True
    if found["format"] not in ("gif", "apng"):
        return False
    return video["frames"] == 1 or (video["frames"] == 0 and not found["duration_us"])


def _duration_us(found: Mapping[str, Any], streams: Sequence[Mapping[str, Any]]) -> int | None:
    if found["duration_us"] and found["duration_us"] > 0:
        return int(found["duration_us"])
    longest = max((s["duration_us"] or 0 for s in streams if not s["attached_picture"]), default=0)
    return longest or None


def _check_limits(
    path: Path, pictures: Sequence[Mapping[str, Any]], duration_us: int | None, limits: MediaLimits
) -> None:
    if pictures and pictures[0]["width"] * pictures[0]["height"] > limits.max_pixels:
        size = f"{pictures[0]['width']}x{pictures[0]['height']}"
        message = f"{path}: its picture of {size} is larger than {limits.max_pixels} pixels; scale it down"
        raise MediaError("media_too_large", message)
    if duration_us is not None and seconds_from_us(duration_us) > limits.max_duration_s:
        lasts, limit = (format_timecode(time_us) for time_us in (duration_us, us_from_seconds(limits.max_duration_s)))
        message = f"{path}: lasts {lasts}, longer than the limit of {limit}; split it or raise the limit"
        raise MediaError("media_too_large", message)


def _video_stream(found: Mapping[str, Any], rotation: int) -> VideoStream:
    return VideoStream(
        index=found["index"],
        codec=found["codec"],
        width=found["width"],
        height=found["height"],
        pixel_aspect=found["pixel_aspect"],
        rotation_degrees=rotation if rotation in (0, 90, 180, 270) else 0,
        frame_rate=found["frame_rate"],
        frame_count=found["frames"] or None,
        has_b_frames=found["has_b_frames"],
    )


def _audio_stream(found: Mapping[str, Any], container_start_us: int) -> AudioStream:
    start_us = container_start_us if found["start_us"] is None else found["start_us"]
    start_us -= container_start_us
    return AudioStream(
        index=found["index"],
        codec=found["codec"],
        sample_rate=found["sample_rate"],
        channels=found["channels"],
        language=found["language"],
        is_default=found["default"],
        start_us=start_us,
        end_us=None if found["duration_us"] is None else start_us + found["duration_us"],
    )


def _chosen_track(sounds: Sequence[Mapping[str, Any]]) -> int | None:
    """The default track, else the first."""
    if not sounds:
        return None
    return int(next((sound["index"] for sound in sounds if sound["default"]), sounds[0]["index"]))


def _warnings(
    pictures: Sequence[Mapping[str, Any]], sounds: Sequence[Mapping[str, Any]], duration_us: int | None, is_image: bool
) -> list[MediaWarning]:
    found = []
    if len(sounds) > 1:
        message = f"{len(sounds)} audio tracks; track {_chosen_track(sounds)} is used"
        found.append(MediaWarning("several_audio_tracks", message))
    if len(pictures) > 1:
        message = f"{len(pictures)} video tracks; track {pictures[0]['index']} is used"
        found.append(MediaWarning("several_video_tracks", message))
    if duration_us is None and not is_image:
        found.append(MediaWarning("duration_unknown", "the header does not declare a duration"))
    return found


def _is_estimate(path: Path, container: str) -> bool:
    """Whether the duration is derived from the size and the bit rate, because the format has no field for it."""
    if container == "mp3":
        return not any(mark in _first_bytes(path, _MP3_HEADER_BYTES) for mark in (b"Xing", b"Info", b"VBRI"))
    return container in _WITHOUT_DURATION
