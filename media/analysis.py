"""The analysis folder: everything the single decode pass measures about an item.

analysis.json   a serialised `MediaAnalysis`; written last
frames/*.jpg    sampled frames
audio.flac      16 kHz mono audio
left.flac, right.flac  the channels, if each has its own speaker
timeline.npz    brightness, motion, colours and loudness
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from promptreel.media.channels import split_channels
from promptreel.media.decode import decode_media
from promptreel.media.shots import FeatureBuilder, Transition, detect_transitions
from promptreel.media.speech import ActivityDetector, detector_name
from promptreel.media.timeline import ColourCounter, build_timeline, save_timeline
from promptreel.schemas.ids import digest
from promptreel.schemas.media import ChannelSound, MediaInfo, SampledFrame, SoundActivity, TimeSpan
from promptreel.schemas.media_warnings import MediaWarning
from promptreel.schemas.settings import MediaLimits, SamplingSettings

ANALYSIS_FILE: Final = "analysis.json"
TIMELINE_FILE: Final = "timeline.npz"

VERSION: Final = 5  # part of the key: increment when the same file would be analysed differently


@dataclass(frozen=True)
class MediaAnalysis:
    """Results of the decode pass.

    Attributes:
        duration_us: duration that segments are planned for; 0 for an image.
        decoded_us: end of the last decoded frame or sample; 0 for an image.
        frames: sampled frames in chronological order; file paths are relative to the folder.
        audio_file: audio, relative to the folder; None if the item has no audio.
        truncated: the file or one of its streams ends before its declared end.
        decode_errors: error messages of the decoder plus concealed frames.
        concealed_frames: frames that the decoder marks as damaged.
        damaged_share: share of the item, 0..1, that is missing or concealed.
        channels: left and right channel if each has its own speaker; otherwise empty.
    """

    info: MediaInfo
    duration_us: int
    decoded_us: int
    frames: tuple[SampledFrame, ...]
    audio_file: str | None
    transitions: tuple[Transition, ...]
    activity: SoundActivity
    frame_count: int
    truncated: bool
    decode_errors: int
    concealed_frames: int
    damaged_share: float
    warnings: tuple[MediaWarning, ...]
    channels: tuple[ChannelSound, ...] = ()


_ANALYSIS: Final = TypeAdapter(MediaAnalysis)


def analysis_key(content_hash: str, sampling: SamplingSettings) -> str:
    """Return the cache key of an item's analysis: equal keys mean equal folders."""
    return digest([VERSION, content_hash, asdict(sampling), detector_name()])


def pictures_key(content_hash: str, sampling: SamplingSettings, frames: tuple[SampledFrame, ...]) -> str:
    """Return the identity of some sampled frames of an item and its sound.

    Frames at the same times of the same file are equal, whatever rate sampled them, and sound does not depend on sampling.
    """
    size = {name: value for name, value in asdict(sampling).items() if name != "frames_per_second"} if frames else None
    return digest([VERSION, content_hash, size, [frame.time_us for frame in frames]])


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
        decoded_us=decoded.decoded_us,
        frames=decoded.frames,
        audio_file=decoded.audio_file,
        transitions=detect_transitions(frame_features) if info.media_type == "video" else (),
        activity=activity,
        frame_count=decoded.frame_count,
        truncated=decoded.truncated,
        decode_errors=decoded.decode_errors,
        concealed_frames=decoded.concealed_frames,
        damaged_share=decoded.damaged_share,
        warnings=(*info.warnings, *decoded.warnings),
        channels=split_channels(info, folder, limits, should_stop) if decoded.audio_file else (),
    )
    (folder / ANALYSIS_FILE).write_text(json.dumps(asdict(analysis)), "utf-8")
    return analysis


def load_analysis(content: bytes) -> MediaAnalysis:
    """Load an `analysis.json`.

    Raises:
        ValueError: the content is not an analysis of this version.
    """
    return _ANALYSIS.validate_json(content)


def frames_of_span(frames: tuple[SampledFrame, ...], span: TimeSpan) -> tuple[SampledFrame, ...]:
    """Return the sampled frames a player shows during a span: those inside it, preceded by the frame that is still on
    screen at its start."""
    first = bisect_left(frames, span.start_us, key=_time_us)
    inside = frames[first : bisect_left(frames, span.end_us, lo=first, key=_time_us)]
    if inside and inside[0].time_us == span.start_us:
        return inside
    before = bisect_right(frames, span.start_us, key=_time_us)
    return (*frames[before - 1 : before], *inside) if before else inside or frames[:1]


def _time_us(frame: SampledFrame) -> int:
    return frame.time_us
