"""One small segment of each type of media, analysed as a run does."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from promptreel.media.analysis import analyze_media, frames_of_span
from promptreel.media.ffmpeg import find_ffmpeg
from promptreel.media.probe import probe_media
from promptreel.providers.base import SegmentInput
from promptreel.schemas.media import MediaType, TimeSpan
from promptreel.schemas.settings import MediaLimits, SamplingSettings

_PICTURES: Final = ("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10")
_TONE: Final = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=16000")
_ENCODING: Final[dict[MediaType, tuple[str, tuple[str, ...]]]] = {
    "video": ("sample.mp4", (*_PICTURES, *_TONE, "-pix_fmt", "yuv420p", "-t", "3")),
    "audio": ("sample.flac", (*_TONE, "-t", "3")),
    "image": ("sample.png", (*_PICTURES, "-frames:v", "1")),
}


def sample_segment(folder: Path, media_type: MediaType) -> SegmentInput:
    """Generate an item of 3 s (160 x 90 pixels, a tone) in a folder, analyse it, and return it as one segment."""
    name, arguments = _ENCODING[media_type]
    command = [find_ffmpeg().path, "-hide_banner", "-loglevel", "error", *arguments, str(folder / name)]
    subprocess.run(command, check=True, timeout=60)
    analysed = folder / "analysis"
    analysed.mkdir()
    analysis = analyze_media(probe_media(folder / name), analysed, SamplingSettings(), MediaLimits())
    span = TimeSpan(0, analysis.duration_us)
    return SegmentInput(
        media_type=media_type,
        folder=analysed,
        span=span,
        frames=frames_of_span(analysis.frames, span),
        audio_file=analysis.audio_file,
        item_key=f"sample_{media_type}",
        item_duration_us=analysis.duration_us,
        item_frames=analysis.frames,
    )
