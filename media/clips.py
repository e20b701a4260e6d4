"""Proxy clips: a segment as a small MP4 or M4A, encoded from the sampled frames and the stored audio."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ffmpeg

from promptreel.media.bounded import DeadlinePassed, Limits, failure_of, run_bounded
from promptreel.media.ffmpeg import find_ffmpeg
from promptreel.schemas.errors import MediaError
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND

_DEADLINE_S: Final = 120.0
_MEMORY_BYTES: Final = 2 << 30
# Shorter clips are stretched: below about half a second a model may sample no frame at all.
MIN_CLIP_US: Final = US_PER_SECOND
_FRAME_US: Final = 40_000  # ffmpeg's default duration of a still image (25 fps)
_AUDIO_BITRATE: Final = "48k"  # AAC, mono, 16 kHz: enough for clear speech
_CRF: Final = 26  # about 30 kB per 854x480 frame


@dataclass(frozen=True, slots=True)
class Clip:
    """Properties of an encoded clip.

    Attributes:
        pictures: number of frames; 0 for audio only.
    """

    mime_type: str
    size_bytes: int
    pictures: int


def make_clip(
    pictures: Sequence[tuple[int, Path]], audio_file: Path | None, span: TimeSpan, out: Path, *, crf: int = _CRF
) -> Clip:
    """Encode the clip of a segment. With the same ffmpeg, the same input yields the same bytes.

    Args:
        pictures: (item time in microseconds, JPEG file) of each frame, in order. Each is shown until the next; the first
            may precede the span. If empty, the clip is audio only.
        audio_file: the item's audio, or None.
        span: the segment, in microseconds of the item.
        out: path of the clip, .mp4 or .m4a.

    Raises:
        MediaError: the segment has neither frames nor audio, or ffmpeg failed.
    """
    if not pictures and audio_file is None:
        raise MediaError("media_no_streams", f"{out.name}: the segment has neither frames nor audio")
    length_us = max(span.duration_us, MIN_CLIP_US) if pictures else span.duration_us
    with tempfile.TemporaryDirectory(prefix="promptreel-clip-") as scratch:
        streams = []
        if pictures:
            script = Path(scratch) / "pictures.ffconcat"
            script.write_text(_picture_script(pictures, span, length_us), "utf-8")
            # safe=0 is fine: the script is generated above and names only frames written by the decode pass.
            slides = ffmpeg.input(str(script), format="concat", safe=0, protocol_whitelist="file")
            streams.append(slides.video.filter("scale", "trunc(iw/2)*2", "trunc(ih/2)*2", out_range="tv"))
        if audio_file is not None:
            sound = ffmpeg.input(str(audio_file.absolute()), ss=f"{span.start_us}us", t=f"{span.duration_us}us")
            streams.append(sound.audio)
        options = {"map_metadata": -1, "fflags": "+bitexact", "flags:v": "+bitexact", "flags:a": "+bitexact"}
        if pictures:
            options |= {
                "vcodec": "libx264",
                "crf": crf,
                "preset": "veryfast",
                "tune": "stillimage",
                "pix_fmt": "yuv420p",
            }
            options |= {"fps_mode": "vfr", "threads": 1, "t": f"{length_us}us"}
        if audio_file is not None:
            options |= {"acodec": "aac", "b:a": _AUDIO_BITRATE}
        output = ffmpeg.output(*streams, str(out.absolute()), format="mp4", movflags="+faststart", **options)
        command = output.global_args("-nostdin", "-hide_banner", "-loglevel", "error", "-y").compile(
            cmd=find_ffmpeg().path
        )
        _run([str(word) for word in command], out)
    return Clip("video/mp4" if pictures else "audio/mp4", out.stat().st_size, len(pictures))


def _picture_script(pictures: Sequence[tuple[int, Path]], span: TimeSpan, length_us: int) -> str:
    """Return a concat script that shows each frame until the time of the next.

    ffmpeg ends the video one frame duration after the start of the last frame, so the last one is repeated for that long;
    otherwise the clip would be too short.
    """
    starts = [0, *(max(0, time_us - span.start_us) for time_us, _ in pictures[1:]), length_us - _FRAME_US]
    lines = ["ffconcat version 1.0"]
    for (_, path), start, end in zip(pictures, starts, starts[1:], strict=False):
        duration_us = max(_FRAME_US, end - start)
        lines += [f"file '{_escaped(path)}'", f"duration {duration_us}us"]
    lines.append(f"file '{_escaped(pictures[-1][1])}'")
    return "\n".join(lines) + "\n"


def _escaped(path: Path) -> str:
    return str(path.absolute()).replace("'", "'\\''")


def _run(command: list[str], out: Path) -> None:
    try:
        done, _ = run_bounded(command, Limits(_DEADLINE_S, _MEMORY_BYTES))
    except DeadlinePassed as error:
        message = (
            f"{out.name}: encoding the clip took longer than {_DEADLINE_S:g} s; try again when the machine is less busy"
        )
        raise MediaError("decode_timeout", message, retryable=True) from error
    if done.returncode != 0 or not out.is_file() or out.stat().st_size == 0:
        raise failure_of(done, out.name, "decode_failed")
