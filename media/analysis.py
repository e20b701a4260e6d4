"""The analysis folder: everything the single decode pass measures about an item.

analysis.json   a serialised `MediaAnalysis`; written last
frames/*.jpg    sampled frames
audio.flac      16 kHz mono audio
timeline.npz    brightness, motion, colours and loudness
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from promptreel.media.decode import decode_media
from promptreel.media.shots import FeatureBuilder, Transition, detect_transitions
from promptreel.media.speech import ActivityDetector, detector_name
from promptreel.media.timeline import ColourCounter, build_timeline, save_timeline
from promptreel.schemas.ids import digest
from promptreel.schemas.media import (
    AudioStream,
    MediaInfo,
    SampledFrame,
    SoundActivity,
    TimeSpan,
    VideoStream,
)
from promptreel.schemas.settings import MediaLimits, SamplingSettings

ANALYSIS_FILE: Final = "analysis.json"
TIMELINE_FILE: Final = "timeline.npz"

VERSION: Final = 4  # part of the key: increment when the same file would be analysed differently


@dataclass(frozen=True)
class MediaAnalysis:
    """Results of the decode pass.

    Attributes:
        duration_us: decoded duration; 0 for an image.
        frames: sampled frames in chronological order; file paths are relative to the folder.
        audio_file: audio, relative to the folder; None if the item has no audio.
        truncated: the file ends before its declared duration.
    """

    info: MediaInfo
    duration_us: int
    frames: tuple[SampledFrame, ...]
    audio_file: str | None
    transitions: tuple[Transition, ...]
    activity: SoundActivity
    frame_count: int
    truncated: bool
    warnings: tuple[str, ...]


def analysis_key(content_hash: str, sampling: SamplingSettings) -> str:
    """Return the cache key of an item's analysis: equal keys mean equal folders."""
    return digest([VERSION, content_hash, asdict(sampling), detector_name()])


def analyze_media(
    info: MediaInfo,
    folder: Path,
    sampling: SamplingSettings,
    limits: MediaLimits,
    should_stop: Callable[[], bool] | None = None,
) -> MediaAnalysis:
    """Decode an item once and write its analysis folder.

    Args:
        should_stop: polled several times a second; decoding is cancelled when it returns True.

    Raises:
        MediaError: nothing could be decoded, a limit was reached, or decoding was cancelled.
    """
    features = FeatureBuilder()
    colours = ColourCounter()
    activity_detector = ActivityDetector()

    def on_frames(frames: NDArray[np.uint8], times_us: NDArray[np.int64]) -> None:
        features.add(frames, times_us)
        colours.add(frames, times_us)

    decoded = decode_media(info, folder, sampling, limits, on_frames, activity_detector.add, should_stop)
    frame_features = features.build()
    activity = activity_detector.finish()
    timeline = build_timeline(frame_features, colours, activity_detector.loudness(), decoded.duration_us)
    save_timeline(timeline, folder / TIMELINE_FILE)
    analysis = MediaAnalysis(
        info=info,
        duration_us=decoded.duration_us,
        frames=decoded.frames,
        audio_file=decoded.audio_file,
        transitions=detect_transitions(frame_features) if info.media_type == "video" else (),
        activity=activity,
        frame_count=decoded.frame_count,
        truncated=decoded.truncated,
        warnings=(*info.warnings, *decoded.warnings),
    )
    (folder / ANALYSIS_FILE).write_text(json.dumps(asdict(analysis)), "utf-8")
    return analysis


def load_analysis(content: bytes) -> MediaAnalysis:
    """Parse an `analysis.json`."""
    data = json.loads(content)
    return MediaAnalysis(
        info=_load_info(data["info"]),
        duration_us=data["duration_us"],
        frames=tuple(SampledFrame(**frame) for frame in data["frames"]),
        audio_file=data["audio_file"],
        transitions=tuple(Transition(**transition) for transition in data["transitions"]),
        activity=SoundActivity(data["activity"]["detector"], tuple(TimeSpan(**s) for s in data["activity"]["spans"])),
        frame_count=data["frame_count"],
        truncated=data["truncated"],
        warnings=tuple(data["warnings"]),
    )


def frames_of_span(frames: tuple[SampledFrame, ...], span: TimeSpan) -> tuple[SampledFrame, ...]:
    """Return the sampled frames a player shows during a span: those inside it, preceded by the frame that is still on
    screen at its start."""
    inside = tuple(frame for frame in frames if span.start_us <= frame.time_us < span.end_us)
    if inside and inside[0].time_us == span.start_us:
        return inside
    before = [frame for frame in frames if frame.time_us <= span.start_us]
    return (*before[-1:], *inside) if before else inside or frames[:1]


def _load_info(data: dict[str, Any]) -> MediaInfo:
    video = data["video"]
    return MediaInfo(
        **{
            **data,
            "video": None if video is None else VideoStream(**video),
            "audio": tuple(AudioStream(**track) for track in data["audio"]),
            "warnings": tuple(data["warnings"]),
        }
    )
