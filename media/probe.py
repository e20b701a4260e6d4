"""Probe media files: a bounded child process reads the header."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from promptreel.media.animations import Animation, is_animated_webp, read_animation
from promptreel.media.bounded import DeadlinePassed, Limits, failure_of, run_bounded
from promptreel.media.ffmpeg import FORMAT_WHITELIST, PROTOCOL_WHITELIST
from promptreel.media.file_structure import is_cut_off
from promptreel.media.protection import is_protected
from promptreel.media.stills import probe_still, still_format
from promptreel.media.tiff_pages import count_pages
from promptreel.schemas.errors import MediaError
from promptreel.schemas.media import AudioStream, MediaInfo, VideoStream
from promptreel.schemas.media_warnings import MediaWarning
from promptreel.schemas.mediatime import US_PER_SECOND, format_timecode, seconds_from_us, us_from_seconds
from promptreel.schemas.settings import MediaLimits

PROBE_DEADLINE_S: Final = 30.0
_PROBE_MEMORY_BYTES: Final = 2 << 30
_CHILD: Final = Path(__file__).with_name("probe_child.py")

# Signatures of still images, each with the demuxer that reads a single file. Without an explicit demuxer, ffmpeg may treat
# the image as the first of a numbered sequence of files.
_IMAGE_SIGNATURES: Final[tuple[tuple[bytes, str], ...]] = (
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
_MP3_HEADER_BYTES: Final = 1 << 20  # the frame header follows a tag that may hold a cover picture
# Text formats that reference other files; recognised only for a more specific error message.
_PLAYLIST_PREFIXES: Final = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"[playlist]", b"v=0")


def probe_media(path: Path, limits: MediaLimits | None = None) -> MediaInfo:
    """Read a file's header. Headers can be wrong; only decoding verifies them.

    Raises:
        MediaError: the file is missing, empty, not media, or exceeds a limit; the message names the file and the fix.
    """
    limits = limits or MediaLimits()
    size = _regular_file_size(path)
    head = _read_head(path)
    if is_protected(path):
        raise MediaError("media_protected", f"{path}: encrypted by DRM; use a copy without protection")
    if still_format(head) is not None:
        return probe_still(path, head, size, limits)
    animation = read_animation(path)
    if animation is not None and animation.frame_count > 0:
        return _animated_picture(path, size, animation, limits)
    image_format = picture_format(head)
    header = _read_header(path, image_format, limits, head)
    streams = [stream for stream in header["streams"] if stream["codec"] is not None]
    video = [s for s in streams if s["type"] == "video" and not s["attached_picture"]]
    audio = [s for s in streams if s["type"] == "audio" and s["sample_rate"] > 0 and s["channels"] > 0]
    if not video and not audio:
        raise MediaError("media_no_streams", f"{path}: no decodable video or audio stream; export it in a common codec")
    is_image = bool(video) and not audio and _is_still(header, video[0], image_format)
    duration_us = None if is_image else _duration_us(header, streams)
    start_us = 0 if is_image else header["start_us"] or 0
    _check_limits(path, video, duration_us, limits, is_image)
    return MediaInfo(
        path=str(path),
        media_type="image" if is_image else "video" if video else "audio",
        container=header["format"],
        size_bytes=size,
        duration_us=duration_us,
        video=_video_stream(video[0], header["rotation"]) if video else None,
        audio=tuple(_audio_stream(stream, start_us) for stream in audio),
        audio_index=_selected_track(audio),
        warnings=tuple(_warnings(video, audio, duration_us, is_image, count_pages(path))),
        start_us=start_us,
        duration_is_estimate=_is_estimate(path, header["format"]),
        is_cut_off=is_cut_off(path),
    )


def _animated_picture(path: Path, size_bytes: int, animation: Animation, limits: MediaLimits) -> MediaInfo:
    """Return the header of an animated picture: a video without sound, or an image if it has one frame."""
    is_image = animation.frame_count == 1
    duration_us = None if is_image else animation.duration_us or None
    size = {"width": animation.width, "height": animation.height}
    _check_limits(path, [size], duration_us, limits, is_image)
    frame_rate = animation.frame_count * US_PER_SECOND / duration_us if duration_us else None
    return MediaInfo(
        path=str(path),
        media_type="image" if is_image else "video",
        container=animation.demuxer,
        size_bytes=size_bytes,
        duration_us=duration_us,
        video=VideoStream(
            0,
            animation.demuxer,
            animation.width,
            animation.height,
            frame_rate=frame_rate,
            frame_count=None if is_image else animation.frame_count,
        ),
        warnings=tuple(_warnings([size], [], duration_us, is_image)),
        is_cut_off=is_cut_off(path),
    )


def picture_format(head: bytes) -> str | None:
    """Return ffmpeg's demuxer for a still image, given the first bytes of the file; None for other files."""
    for signature, demuxer in _IMAGE_SIGNATURES:
        if head.startswith(signature):
            return demuxer
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp_anim" if is_animated_webp(head) else "webp_pipe"
    return None


def _regular_file_size(path: Path) -> int:
    try:
        info = path.stat()
    except OSError as error:
        raise MediaError(
            "media_not_found", f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    if not stat.S_ISREG(info.st_mode):
        raise MediaError("media_not_found", f"{path}: not a regular file; give the path of a media file")
    if info.st_size == 0:
        raise MediaError("media_empty", f"{path}: the file is empty; copy it again from its source")
    return info.st_size


def _read_head(path: Path, count: int = 64) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); check its permissions"
        raise MediaError("media_not_found", message) from error


def _read_header(path: Path, image_format: str | None, limits: MediaLimits, head: bytes) -> dict[str, Any]:
    command = [sys.executable, "-I", str(_CHILD), f"file:{path.absolute()}", image_format or "-"]
    is_picture = image_format is not None
    command += [FORMAT_WHITELIST, PROTOCOL_WHITELIST]
    command.append(str(limits.max_image_pixels if is_picture else limits.max_pixels))
    memory_bytes = limits.decode_memory_bytes if is_picture else _PROBE_MEMORY_BYTES
    try:
        done, output = run_bounded(command, Limits(PROBE_DEADLINE_S, memory_bytes, file_bytes=0))
    except DeadlinePassed as error:
        message = f"{path}: reading the header took longer than {PROBE_DEADLINE_S:g} s; check that the file plays"
        raise MediaError("decode_timeout", message) from error
    if done.returncode != 0:
        raise failure_of(done, str(path))
    header = json.loads(output)
    if "error" in header:
        raise _header_error(path, head, header["error"])
    return dict(header)


def _header_error(path: Path, head: bytes, reason: str) -> MediaError:
    if head.startswith(b"%PDF"):
        message = f"{path}: PDF documents are not supported; convert the pages to images, for example with pdftoppm"
        return MediaError("media_unsupported", message)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(_PLAYLIST_PREFIXES):
        message = (
            f"{path}: a playlist or manifest that references other files is not media; add the media files instead"
        )
        return MediaError("media_unsupported", message)
    if head and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        return MediaError("media_unsupported", f"{path}: a text file, not media; check what was saved under this name")
    if head[4:8] == b"ftyp":
        message = f"{path}: MP4 without a readable index ({reason}); the file is truncated or damaged, so copy it again"
        return MediaError("media_corrupt", message)
    return MediaError(
        "media_unsupported",
        f"{path}: not a supported media format, or the header is damaged ({reason}); check that the file plays, or convert "
        "it with: ffmpeg -i FILE out.mp4",
    )


def _is_still(header: Mapping[str, Any], video: Mapping[str, Any], image_format: str | None) -> bool:
    if image_format is not None:
        return True
    if header["format"] not in ("gif", "apng"):
        return False
    return video["frames"] == 1 or (video["frames"] == 0 and not header["duration_us"])


def _duration_us(header: Mapping[str, Any], streams: Sequence[Mapping[str, Any]]) -> int | None:
    if header["duration_us"] and header["duration_us"] > 0:
        return int(header["duration_us"])
    longest = max((s["duration_us"] or 0 for s in streams if not s["attached_picture"]), default=0)
    return longest or None


def _check_limits(
    path: Path, video: Sequence[Mapping[str, Any]], duration_us: int | None, limits: MediaLimits, is_image: bool
) -> None:
    max_pixels = limits.max_image_pixels if is_image else limits.max_pixels
    if video and video[0]["width"] * video[0]["height"] > max_pixels:
        size = f"{video[0]['width']}x{video[0]['height']}"
        message = f"{path}: picture size {size} exceeds the limit of {max_pixels} pixels; scale it down"
        raise MediaError("media_too_large", message)
    if duration_us is not None and seconds_from_us(duration_us) > limits.max_duration_s:
        length, limit = (format_timecode(time_us) for time_us in (duration_us, us_from_seconds(limits.max_duration_s)))
        message = f"{path}: duration {length} exceeds the limit of {limit}; split the file or raise the limit"
        raise MediaError("media_too_large", message)


def _video_stream(stream: Mapping[str, Any], rotation: int) -> VideoStream:
    return VideoStream(
        index=stream["index"],
        codec=stream["codec"],
        width=stream["width"],
        height=stream["height"],
        pixel_aspect=stream["pixel_aspect"],
        rotation_degrees=rotation if rotation in (0, 90, 180, 270) else 0,
        frame_rate=stream["frame_rate"],
        frame_count=stream["frames"] or None,
        has_b_frames=stream["has_b_frames"],
    )


def _audio_stream(stream: Mapping[str, Any], container_start_us: int) -> AudioStream:
    start_us = container_start_us if stream["start_us"] is None else stream["start_us"]
    start_us -= container_start_us
    return AudioStream(
        index=stream["index"],
        codec=stream["codec"],
        sample_rate=stream["sample_rate"],
        channels=stream["channels"],
        language=stream["language"],
        is_default=stream["default"],
        start_us=start_us,
        end_us=None if stream["duration_us"] is None else start_us + stream["duration_us"],
    )


def _selected_track(audio: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the index of the default track, or of the first one if no track is the default."""
    if not audio:
        return None
    return int(next((stream["index"] for stream in audio if stream["default"]), audio[0]["index"]))


def _warnings(
    video: Sequence[Mapping[str, Any]],
    audio: Sequence[Mapping[str, Any]],
    duration_us: int | None,
    is_image: bool,
    page_count: int = 1,
) -> list[MediaWarning]:
    warnings = []
    if page_count > 1:
        message = f"{page_count} pages; using page 1; name a page with #page=N"
        warnings.append(MediaWarning("several_pages", message))
    if len(audio) > 1:
        message = f"{len(audio)} audio tracks; using track {_selected_track(audio)}"
        warnings.append(MediaWarning("several_audio_tracks", message))
    if len(video) > 1:
        message = f"{len(video)} video tracks; using track {video[0]['index']}"
        warnings.append(MediaWarning("several_video_tracks", message))
    if duration_us is None and not is_image:
        warnings.append(MediaWarning("duration_unknown", "the header does not declare a duration"))
    return warnings


def _is_estimate(path: Path, container: str) -> bool:
    """Whether the duration is derived from the size and the bit rate, because the format has no field for it."""
    if container == "mp3":
        return not any(mark in _read_head(path, _MP3_HEADER_BYTES) for mark in (b"Xing", b"Info", b"VBRI"))
    return container in _WITHOUT_DURATION
