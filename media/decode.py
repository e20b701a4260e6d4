"""The single decode pass over an item: small frames, sampled frames and sound, from one bounded ffmpeg pipeline."""

from __future__ import annotations

import os
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
from promptreel.media.decode_checks import DecodedStreams, check_decoded
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
from promptreel.media.decoder_limits import MIN_DEADLINE_S, decoder_limits
from promptreel.media.decoder_log import DecoderLog
from promptreel.media.speech import SAMPLE_RATE
from promptreel.media.stills import decode_still, is_still
from promptreel.media.timestamps import Clock, read_clock
from promptreel.schemas.errors import MediaError, StorageError
from promptreel.schemas.media import MediaInfo, SampledFrame
from promptreel.schemas.media_warnings import MediaWarning
from promptreel.schemas.mediatime import US_PER_SECOND, seconds_from_us
from promptreel.schemas.settings import MediaLimits, SamplingSettings

# Codecs whose unreferenced frames can be skipped without damage to the others.
_SKIPPABLE_CODECS: Final = frozenset({"h264", "hevc", "mpeg2video", "mpeg4"})
# Streams without timestamps: the decoder counts frames, so none may be skipped.
_UNTIMED_CONTAINERS: Final = frozenset({"h264", "hevc", "m4v", "mpegvideo"})
# A shot boundary must be placed within a quarter of a second: if skipping leaves wider gaps, all frames are decoded.
_MAX_GAP_US: Final = 180_000
_DEFAULT_STEP_US: Final = 40_000  # display time of a single frame without a frame rate
_TRIAL_S: Final = 2.0
_JPEG_END: Final = b"\xff\xd9"


@dataclass(frozen=True)
class DecodedMedia:
    """The result of the decode pass.

    Attributes:
        duration_us: length in microseconds: the header's if the streams confirm it, otherwise the decoded one; 0 for an
            image.
        decoded_us: end of the last frame or sample that was decoded; 0 for an image.
        frames: sampled frames in order of time.
        audio_file: name of the sound file; None without sound.
        frame_count: number of small frames.
        truncated: the file or one of its streams ends before its declared end.
        decode_errors: error messages of the decoder and concealed frames.
        concealed_frames: frames that the decoder marks as damaged.
        damaged_share: share of the item, 0..1, that is missing or concealed.
    """

    duration_us: int
    decoded_us: int
    frames: tuple[SampledFrame, ...]
    audio_file: str | None
    frame_count: int
    truncated: bool
    decode_errors: int
    concealed_frames: int
    damaged_share: float
    warnings: tuple[MediaWarning, ...]


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
        StorageError: the disk is full.
    """
    (folder / FRAMES_FOLDER).mkdir(exist_ok=True)
    skip = _can_skip_unreferenced(info, limits, should_stop)
    clock = read_clock(info, should_stop)

    def decode(selected: MediaInfo, source: Path) -> tuple[DecodeSinks, DecoderLog, Completed]:
        sinks, log = DecodeSinks(on_frames, on_sound), DecoderLog()
        done = _run(selected, source, folder, sampling, limits, skip, clock, sinks, log, should_stop)
        sinks.finish()
        done = replace(done, stderr=log.error_text() or done.stderr)
        failure = failure_of(done, info.path)
        if done.returncode != 0 and failure.code != "media_corrupt":
            raise failure  # the machine failed, not the file: a partial item is not a result
        return sinks, log, done

    with _source(info, folder, limits, should_stop) as source:
        sinks, log, done = decode(info, source)
        if sinks.is_empty and info.video is not None and info.audio_index is not None:
            # Frames that cannot be decoded must not cost the sound.
            sinks, log, done = decode(replace(info, video=None), source)
    if sinks.is_empty:
        raise failure_of(done, info.path)
    return _decoded(info, folder, sinks, log, clock, done.returncode != 0)


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
    clock: Clock,
    sinks: DecodeSinks,
    log: DecoderLog,
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
    bounds = decoder_limits(info, limits)
    try:
        return stream_bounded(
            lambda pipes: decode_command(info, source, folder, sampling, limits, skip, clock, pipes),
            consumers,
            bounds,
            should_stop,
            (lambda pipes: sound_command(folder, pipes)) if info.audio_index is not None else None,
            log.add,
        )
    except DeadlinePassed as error:
        message = (
            f"{info.path}: decoding took longer than {bounds.deadline_s:.0f} s; "
            "check that the file is what it claims to be"
        )
        raise MediaError("decode_timeout", message, retryable=True) from error
    except Stopped as error:
        raise MediaError("cancelled", f"{info.path}: decoding was cancelled", retryable=True) from error


def _decoded(
    info: MediaInfo, folder: Path, sinks: DecodeSinks, log: DecoderLog, clock: Clock, ended_early: bool
) -> DecodedMedia:
    video = log.streams.get(info.video.index) if info.video is not None else None
    streams = DecodedStreams(
        video_end_us=_video_end_us(info, sinks),
        audio_end_us=sinks.sound_end_us,
        video_filled_us=sinks.frame_count * (sinks.step_us or 0),
        audio_filled_us=(log.encoded_samples or sinks.samples) * US_PER_SECOND // SAMPLE_RATE,
        frame_count=sinks.frame_count,
        video_packets=video.packets if video is not None else None,
        decode_errors=log.decode_errors,
        concealed_frames=log.concealed_frames,
        messages=log.summary(),
        ended_early=ended_early,
        jpeg_end_missing=log.jpeg_end_missing,
    )
    verdict = check_decoded(info, streams, clock.jumps)
    if info.media_type != "image" and verdict.duration_us <= 0:
        raise MediaError(
            "media_corrupt", f"{info.path}: all timestamps are zero; convert it with: ffmpeg -i FILE out.mp4"
        )
    frames = _stored_frames(info, folder, sinks.sample_times.values, ended_early)
    is_image = info.media_type == "image"
    return DecodedMedia(
        duration_us=verdict.duration_us,
        decoded_us=0 if is_image else streams.end_us,
        frames=frames[:1] if is_image else tuple(f for f in frames if f.time_us < verdict.duration_us),
        audio_file=AUDIO_FILE if sinks.samples else None,
        frame_count=sinks.frame_count,
        truncated=verdict.truncated,
        decode_errors=streams.decode_errors,
        concealed_frames=streams.concealed_frames,
        damaged_share=verdict.damaged_share,
        warnings=verdict.warnings,
    )


def _video_end_us(info: MediaInfo, sinks: DecodeSinks) -> int:
    """Return the estimated end of the last frame: one usual step after its time, at most the declared end."""
    if info.video is None or sinks.frame_count == 0:
        return 0
    step_us = sinks.step_us
    if not step_us:
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
            Limits(MIN_DEADLINE_S, limits.decode_memory_bytes),
            should_stop,
        )
    except (DeadlinePassed, Stopped):
        return False
    gaps = np.diff(np.array(times.values, np.int64))
    return len(gaps) > 0 and float(np.percentile(gaps, 95)) <= _MAX_GAP_US


def _stored_frames(info: MediaInfo, folder: Path, times_us: list[int], ended_early: bool) -> tuple[SampledFrame, ...]:
    """Return the sampled frames on disk with their times. The last ones may be incomplete if the decoder ended early.

    Raises:
        StorageError: a frame is incomplete although the decoder ended normally: it ignores some errors of the disk.
    """
    frames = []
    for number, time_us in enumerate(times_us, start=1):
        name = f"{FRAMES_FOLDER}/{number:08d}.jpg"
        if _is_complete(folder / name):
            frames.append(SampledFrame(max(0, time_us), name))
        elif not ended_early:
            raise StorageError(
                f"cannot write the frame at {seconds_from_us(time_us):.3f} s of {info.path}: the disk may be full; "
                "free space, then resume"
            )
    return tuple(frames)


def _is_complete(jpeg: Path) -> bool:
    try:
        with jpeg.open("rb") as file:
            file.seek(-len(_JPEG_END), os.SEEK_END)
            return file.read() == _JPEG_END
    except OSError:  # it is missing, or shorter than the marker
        return False
