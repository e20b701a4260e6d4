"""Generate media with the product's ffmpeg and analyse it as a run does, to get inputs for providers."""

import subprocess

from promptreel.media.analysis import analyze_media, frames_of_span
from promptreel.media.ffmpeg import find_ffmpeg
from promptreel.media.probe import probe_media
from promptreel.providers.base import SegmentInput
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.mediatime import us_from_seconds
from promptreel.schemas.settings import MediaLimits, SamplingSettings


def run_ffmpeg(*arguments, stdin=b""):
    """Run ffmpeg and return its standard output."""
    command = [find_ffmpeg().path, "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def make_media(path, *, picture=None, sound=None, seconds=None):
    """Encode lavfi sources to a file; the suffix selects the container."""
    inputs = [part for source in (picture, sound) if source for part in ("-f", "lavfi", "-i", source)]
    length = [] if seconds is None else ["-t", seconds]
    codecs = ["-pix_fmt", "yuv420p", "-preset", "veryfast"] if picture and path.suffix == ".mp4" else []
    still = ["-frames:v", 1] if path.suffix in (".png", ".jpg") else []
    run_ffmpeg(*inputs, *length, *codecs, *still, path)
    return path


def analyse(path, folder, frames_per_second=1.0):
    """Analyse a media file; return (analysis, folder)."""
    folder.mkdir(parents=True)
    sampling = SamplingSettings(frames_per_second=frames_per_second)
    return analyze_media(probe_media(path), folder, sampling, MediaLimits()), folder


def segment_of(analysed, start_s=0.0, end_s=None, item_key="item"):
    """Return one segment of an analysed item; by default, it ends with the item."""
    analysis, folder = analysed
    end_us = analysis.duration_us if end_s is None else us_from_seconds(end_s)
    span = TimeSpan(us_from_seconds(start_s), end_us)
    return SegmentInput(
        media_type=analysis.info.media_type,
        folder=folder,
        span=span,
        frames=frames_of_span(analysis.frames, span),
        audio_file=analysis.audio_file,
        item_key=item_key,
        item_duration_us=analysis.duration_us,
        item_frames=analysis.frames,
    )
