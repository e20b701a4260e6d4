"""The single decode pass over an item: small frames, sampled frames and sound, from one bounded ffmpeg pipeline."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from promptreel.media.bounded import (
    Completed,
    DeadlinePassed,
    Limits,
    Stopped,
    failure_of,
    stream_bounded,
)
from promptreel.media.decode_command import (
    AUDIO_FILE,
    FRAMES_FOLDER,
    SAMPLE_TIMES,
    SMALL_FRAME_TIMES,
    SMALL_FRAMES,
    SOUND,
    decode_command,
    frame_times_command,
    sound_command,
)
from promptreel.media.decode_sinks import DecodeSinks, FrameTimes, OnFrames, OnSound
from promptreel.media.stills import decode_still, is_still
from promptreel.schemas.errors import MediaError
from promptreel.schemas.media import MediaInfo, SampledFrame
from promptreel.schemas.mediatime import US_PER_SECOND, seconds_from_us
from promptreel.schemas.settings import MediaLimits, SamplingSettings

# Codecs whose unreferenced frames can be skipped without damage to the others.
_SKIPPABLE_CODECS: Final = frozenset({"h264", "hevc", "mpeg2video", "mpeg4"})
# Streams without timestamps: the decoder counts frames, so none may be skipped.
_UNTIMED_CONTAINERS: Final = frozenset({"h264", "hevc", "m4v", "mpegvideo"})
# A shot boundary must be placed within a quarter of a second: if skipping leaves wider gaps, all frames are decoded.
_MAX_GAP_US: Final = 180_000
# A file counts as truncated if it ends this much before the duration in its header.
_MISSING_SHARE, _MISSING_US = 0.02, US_PER_SECOND
_DEFAULT_STEP_US: Final = 40_000  # display time of a single frame without a frame rate
_MIN_DEADLINE_S: Final = 60.0
_TRIAL_S: Final = 2.0


@dataclass(frozen=True)
class DecodedMedia:
    """The result of the decode pass.

    Attributes:
        duration_us: length in microseconds: the header's if the streams confirm it, otherwise the decoded one; 0 for an
            image.
        frames: sampled frames in order of time.
        audio_file: name of the sound file; None without sound.
        frame_count: number of small frames.
        truncated: the streams end before the duration in the header.
    """

    duration_us: int
    frames: tuple[SampledFrame, ...]
    audio_file: str | None
    frame_count: int
    truncated: bool
    warnings: tuple[str, ...]


def decode_media(
    info: MediaInfo,
    folder: Path,
    sampling: SamplingSettings,
    limits: MediaLimits,
    on_frames: OnFrames,
    on_sound: OnSound,
    should_stop: Callable[[], bool] | None = None,
) -> DecodedMedia:
    """Decode an item once.

    Args:
        folder: existing folder for sampled frames (`frames/*.jpg`) and sound (`audio.flac`, 16 kHz mono).
        on_frames: receives uint8[k, 36, 64, 3] RGB frames and their int64[k] times in microseconds, in order.
        on_sound: receives int16[m] samples, 16 kHz mono.
        should_stop: polled several times a second.

    Raises:
        MediaError: nothing could be decoded, a limit was reached, or (code "cancelled") the pass was stopped.
    """
    (folder / FRAMES_FOLDER).mkdir(exist_ok=True)
    skip = _can_skip_unreferenced(info, limits, should_stop)

    def decode(selected: MediaInfo, source: Path) -> tuple[DecodeSinks, Completed]:
        sinks = DecodeSinks(on_frames, on_sound)
        done = _run(selected, source, folder, sampling, limits, skip, sinks, should_stop)
        sinks.finish()
        failure = failure_of(done, info.path)
        if done.returncode != 0 and failure.code != "media_corrupt":
            raise failure  # the machine failed, not the file: a partial item is not a result
        return sinks, done

    with _source(info, folder, limits, should_stop) as source:
        sinks, done = decode(info, source)
        if sinks.is_empty and info.video is not None and info.audio_index is not None:
            # Frames that cannot be decoded must not cost the sound.
            sinks, done = decode(replace(info, video=None), source)
    if sinks.is_empty:
        raise failure_of(done, info.path)
    return _decoded(info, folder, sinks, done)


@contextmanager
def _source(
    info: MediaInfo, folder: Path, limits: MediaLimits, should_stop: Callable[[], bool] | None
) -> Iterator[Path]:
    """The file that ffmpeg reads: the item's own, or a decoded copy of a picture that ffmpeg does not fully support."""
    if not is_still(info):
        yield Path(info.path)
        return
    with tempfile.TemporaryDirectory(prefix="picture-", dir=folder) as scratch:
        copy = Path(scratch) / "picture.bmp"
        decode_still(info, copy, limits, should_stop)
        yield copy


def _run(
    info: MediaInfo,
    source: Path,
    folder: Path,
    sampling: SamplingSettings,
    limits: MediaLimits,
    skip: bool,
    sinks: DecodeSinks,
    should_stop: Callable[[], bool] | None,
) -> Completed:
    consumers: dict[str, Callable[[bytes], None]] = {}
    if info.video is not None:
        consumers |= {
            SMALL_FRAMES: sinks.add_frames,
            SMALL_FRAME_TIMES: sinks.times.add,
            SAMPLE_TIMES: sinks.sample_times.add,
        }
    if info.audio_index is not None:
        consumers[SOUND] = sinks.add_sound
    length_s = seconds_from_us(info.duration_us) if info.duration_us is not None else limits.max_duration_s / 2
    deadline_s = max(_MIN_DEADLINE_S, limits.decode_deadline_factor * length_s)
    try:
        return stream_bounded(
            lambda pipes: decode_command(info, source, folder, sampling, limits, skip, pipes),
            consumers,
            Limits(deadline_s, limits.decode_memory_bytes),
            should_stop,
            (lambda pipes: sound_command(folder, pipes)) if info.audio_index is not None else None,
        )
    except DeadlinePassed as error:
        message = (
            f"{info.path}: decoding took longer than {deadline_s:.0f} s; check that the file is what it claims to be"
        )
        raise MediaError("decode_timeout", message, retryable=True) from error
    except Stopped as error:
        raise MediaError("cancelled", f"{info.path}: decoding was cancelled", retryable=True) from error


def _decoded(info: MediaInfo, folder: Path, sinks: DecodeSinks, done: Completed) -> DecodedMedia:
    frames = _stored_frames(folder, sinks.sample_times.values)
    warnings = []
    if info.video is not None and sinks.frame_count == 0:
        warnings.append("no picture could be decoded; only the sound is used")
    if info.audio_index is not None and sinks.samples == 0:
        warnings.append("no sound could be decoded")
    if info.media_type == "image":
        return DecodedMedia(0, frames[:1], None, sinks.frame_count, False, tuple(warnings))
    decoded_us = max(_video_end_us(info, sinks), sinks.sound_end_us)
    last_frame_may_last = info.video is not None and done.returncode == 0 and not done.stderr.strip()
    duration_us, truncated = settle_duration(info.duration_us, decoded_us, last_frame_may_last)
    if truncated:
        declared, found = seconds_from_us(info.duration_us or 0), seconds_from_us(decoded_us)
        warnings.append(f"truncated: the header declares {declared:.1f} s, but only {found:.1f} s can be decoded")
    elif done.returncode != 0:
        warnings.append(f"the decoder ended early: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]}")
    inside = tuple(frame for frame in frames if frame.time_us < duration_us)
    audio_file = AUDIO_FILE if sinks.samples else None
    return DecodedMedia(duration_us, inside, audio_file, sinks.frame_count, truncated, tuple(warnings))


def settle_duration(declared_us: int | None, decoded_us: int, last_frame_may_last: bool = False) -> tuple[int, bool]:
    """(duration in microseconds, whether the file is truncated) from the header and the decoded length.

    The header is exact where the decoded end is not (the display time of the last frame is unknown), so it wins unless the
    two differ by more than rounding.

    Args:
        last_frame_may_last: there are frames and the decoder reported no error, so that the last frame may be shown to the
            end: a slide show, a screen recording that stands still.
    """
    if declared_us is None:
        return decoded_us, False
    missing_us = declared_us - decoded_us
    if missing_us > max(_MISSING_US, _MISSING_SHARE * declared_us):
        return (declared_us, False) if last_frame_may_last else (decoded_us, True)
    return (declared_us, False) if missing_us > -US_PER_SECOND // 2 else (decoded_us, False)


def _video_end_us(info: MediaInfo, sinks: DecodeSinks) -> int:
    """The estimated end of the last frame: one usual step after its time, but not beyond the header's end."""
    if info.video is None or sinks.frame_count == 0:
        return 0
    step_us = sinks.step_us
    if step_us is None:
        step_us = round(US_PER_SECOND / info.video.frame_rate) if info.video.frame_rate else _DEFAULT_STEP_US
    if info.duration_us is not None:
        step_us = min(step_us, max(0, info.duration_us - sinks.last_us))
    return sinks.last_us + step_us


def _can_skip_unreferenced(info: MediaInfo, limits: MediaLimits, should_stop: Callable[[], bool] | None) -> bool:
    """Whether the referenced frames are close enough together, judged by the first seconds of the item."""
    video = info.video
    if video is None or not video.has_b_frames or video.codec not in _SKIPPABLE_CODECS:
        return False
    if info.container in _UNTIMED_CONTAINERS:
        return False
    times = FrameTimes()
    try:
        stream_bounded(
            lambda pipes: frame_times_command(info, limits, _TRIAL_S, pipes),
            {SMALL_FRAME_TIMES: times.add},
            Limits(_MIN_DEADLINE_S, limits.decode_memory_bytes),
            should_stop,
        )
    except (DeadlinePassed, Stopped):
        return False
    gaps = np.diff(np.array(times.values, np.int64))
    return len(gaps) > 0 and float(np.percentile(gaps, 95)) <= _MAX_GAP_US


def _stored_frames(folder: Path, times_us: list[int]) -> tuple[SampledFrame, ...]:
    """The sampled frames on disk with their times, without a frame that the end of the decoder cut off."""
    frames = []
    for number, time_us in enumerate(times_us, start=1):
        name = f"{FRAMES_FOLDER}/{number:08d}.jpg"
        if (folder / name).is_file() and (folder / name).stat().st_size > 0:
            frames.append(SampledFrame(max(0, time_us), name))
    return tuple(frames)
