"""Proxy clips: a segment as a small MP4 (or M4A), made from the sampled pictures and the kept sound."""

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
# A clip shorter than this is stretched: below about half a second a model may be shown no frame at all.
MIN_CLIP_US: Final = US_PER_SECOND
_STEP_US: Final = 40_000  # ffmpeg counts single pictures at 25 a second
_AUDIO_BITRATE: Final = "48k"  # AAC, mono, 16 kHz: speech stays clear
_CRF: Final = 26  # about 30 kB for a picture of 854x480


@dataclass(frozen=True, slots=True)
class Clip:
    """What was made.

    Attributes:
        pictures: pictures in it; 0 for sound alone.
    """

    mime_type: str
    size_bytes: int
    pictures: int


def make_clip(
    pictures: Sequence[tuple[int, Path]], audio_file: Path | None, span: TimeSpan, out: Path, *, crf: int = _CRF
) -> Clip:
    """Makes the clip of one segment. The same input gives the same bytes with the same ffmpeg.

    Args:
        pictures: (time in microseconds of the item, JPEG file), in order; the first may lie before the span, each is
            shown until the next. Without any, the clip is sound alone.
        audio_file: the item's sound; None without.
        span: the segment, in microseconds of the item.
        out: where the clip is written, .mp4 or .m4a.

    Raises:
        MediaError: there is neither picture nor sound, or ffmpeg failed.
    """
    if not pictures and audio_file is None:
        raise MediaError("media_no_streams", f"{out.name}: neither picture nor sound lies in the segment")
    length_us = max(span.duration_us, MIN_CLIP_US) if pictures else span.duration_us
    with tempfile.TemporaryDirectory(prefix="promptreel-clip-") as scratch:
        streams = []
        if pictures:
            script = Path(scratch) / "pictures.ffconcat"
            script.write_text(_picture_script(pictures, span, length_us), "utf-8")
            # The script is ours, and names nothing but pictures that this program has written.
            shown = ffmpeg.input(str(script), format="concat", safe=0, protocol_whitelist="file")
            streams.append(shown.video.filter("scale", "trunc(iw/2)*2", "trunc(ih/2)*2", out_range="tv"))
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
    """A concat script that shows each picture from its time to the next. A film ends one step after the beginning of its
    last picture, so the last one is shown once more for that step: without it the clip would be too short."""
    starts = [0, *(max(0, time_us - span.start_us) for time_us, _ in pictures[1:]), length_us - _STEP_US]
    lines = ["ffconcat version 1.0"]
    for (_, path), start, end in zip(pictures, starts, starts[1:], strict=False):
        shown_us = max(_STEP_US, end - start)
        lines += [f"file '{_escaped(path)}'", f"duration {shown_us}us"]
    lines.append(f"file '{_escaped(pictures[-1][1])}'")
    return "\n".join(lines) + "\n"


def _escaped(path: Path) -> str:
    return str(path.absolute()).replace("'", "'\\''")


def _run(command: list[str], out: Path) -> None:
    try:
        done, _ = run_bounded(command, Limits(_DEADLINE_S, _MEMORY_BYTES))
    except DeadlinePassed as error:
        message = f"{out.name}: the clip was not made within {_DEADLINE_S:g} s"
        raise MediaError("decode_timeout", message, retryable=True) from error
    if done.returncode != 0 or not out.is_file() or out.stat().st_size == 0:
        raise failure_of(done, out.name, "decode_failed")
