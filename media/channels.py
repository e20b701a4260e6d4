"""Stereo sound with one speaker per channel, as in recorded interviews and calls: a separate sound per channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import ffmpeg
import numpy as np
from numpy.typing import NDArray

from promptreel.media.bounded import Completed, DeadlinePassed, Stopped, stream_bounded
from promptreel.media.decode_command import FILL_GAPS, clock_options, compile_command
from promptreel.media.decoder_limits import decoder_limits
from promptreel.media.ffmpeg import input_arguments
from promptreel.media.sample_blocks import SampleBlocks
from promptreel.media.speech import SAMPLE_RATE, ActivityDetector
from promptreel.media.timestamps import read_clock
from promptreel.schemas.errors import MediaError
from promptreel.schemas.media import ChannelSound, MediaInfo
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.settings import MediaLimits

CHANNEL_FILES: Final = ("left.flac", "right.flac")
# From the middle of the item: enough of a conversation to hear both speakers, and little to decode.
_TRIAL_S: Final = 45.0
_TRIAL_RATE: Final = 8000
_LEVEL_SAMPLES: Final = _TRIAL_RATE // 10
_MIN_LEVEL_DBFS: Final = -45.0  # quieter parts are pauses
# A microphone picks up the other speaker 10 to 20 dB quieter. Music and films place voices in both channels alike.
_MIN_DIFFERENCE_DB: Final = 10.0
_MIN_SEPARATE_SHARE: Final = 0.7
_MIN_CHANNEL_SHARE: Final = 0.05
_MIN_ACTIVE_LEVELS: Final = 20


def split_channels(
    info: MediaInfo, folder: Path, limits: MediaLimits, should_stop: Callable[[], bool] | None = None
) -> tuple[ChannelSound, ...]:
    """Write the left and the right channel of an item to the folder if each has its own speaker.

    Returns:
        The two channels with their sound activity; empty for other sound, and if the sound cannot be decoded alone.

    Raises:
        MediaError: (code "cancelled") `should_stop` returned True.
    """
    if (
        info.audio_track is None
        or info.audio_track.channels != 2
        or not _has_separate_speakers(info, limits, should_stop)
    ):
        return ()
    detectors = {name: ActivityDetector() for name in CHANNEL_FILES}
    blocks = {name: SampleBlocks(detector.add) for name, detector in detectors.items()}
    part = {"t": limits.max_duration_s, **clock_options(info, read_clock(info, should_stop))}
    source = _stereo(info, SAMPLE_RATE, part, FILL_GAPS)
    channels = source.filter_multi_output("channelsplit", channel_layout="stereo")

    def command(pipes: Mapping[str, int]) -> list[str]:
        outputs = []
        for number, name in enumerate(CHANNEL_FILES):
            copies = channels[number].filter_multi_output("asplit", 2)
            outputs.append(copies[0].output(f"pipe:{pipes[name]}", format="s16le", acodec="pcm_s16le"))
            outputs.append(
                copies[1].output(str(folder.absolute() / name), format="flac", acodec="flac", compression_level=1)
            )
        return compile_command(ffmpeg.merge_outputs(*outputs), "error")

    done = _run(command, {name: block.add for name, block in blocks.items()}, info, limits, should_stop)
    if done is None or done.returncode != 0:
        for name in CHANNEL_FILES:
            (folder / name).unlink(missing_ok=True)
        return ()
    return tuple(ChannelSound(name, detectors[name].finish()) for name in CHANNEL_FILES)


def are_separate(levels_dbfs: NDArray[np.float64]) -> bool:
    """Whether two channels have different speakers.

    Args:
        levels_dbfs: float64[n, 2], level of each tenth of a second of both channels, in dBFS.
    """
    active = levels_dbfs[levels_dbfs.max(axis=1, initial=-np.inf) > _MIN_LEVEL_DBFS]
    if len(active) < _MIN_ACTIVE_LEVELS:
        return False
    difference = active[:, 0] - active[:, 1]
    left, right = (float(np.mean(sign * difference > _MIN_DIFFERENCE_DB)) for sign in (1, -1))
    return min(left, right) >= _MIN_CHANNEL_SHARE and left + right >= _MIN_SEPARATE_SHARE


def _has_separate_speakers(info: MediaInfo, limits: MediaLimits, should_stop: Callable[[], bool] | None) -> bool:
    levels: list[NDArray[np.float64]] = []

    def add(samples: NDArray[np.int16]) -> None:
        power = (samples.reshape(-1, _LEVEL_SAMPLES, 2).astype(np.float64) ** 2).mean(axis=1)
        levels.append(10 * np.log10(np.maximum(power, 1e-3)) - 20 * np.log10(32768))

    block = SampleBlocks(add, 2 * _LEVEL_SAMPLES)
    start_s = max(0.0, (seconds_from_us(info.duration_us or 0) - _TRIAL_S) / 2)
    source = _stereo(info, _TRIAL_RATE, {"ss": start_s, "t": _TRIAL_S}, {})

    def command(pipes: Mapping[str, int]) -> list[str]:
        output = source.output(f"pipe:{pipes['sound']}", format="s16le", acodec="pcm_s16le")
        return compile_command(output, "error")

    if _run(command, {"sound": block.add}, info, limits, should_stop) is None or not levels:
        return False
    return are_separate(np.concatenate(levels))


def _stereo(info: MediaInfo, rate: int, part: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    arguments = input_arguments(str(Path(info.path).absolute()), vn=None, sn=None, dn=None, **part)
    source = ffmpeg.input(**arguments)[str(info.audio_index)].filter("aresample", rate, **options)
    return source.filter("aformat", sample_fmts="s16", channel_layouts="stereo")


def _run(
    command: Callable[[Mapping[str, int]], list[str]],
    sinks: Mapping[str, Callable[[bytes], None]],
    info: MediaInfo,
    limits: MediaLimits,
    should_stop: Callable[[], bool] | None,
) -> Completed | None:
    """Run a command; None if it took too long."""
    try:
        return stream_bounded(command, sinks, decoder_limits(info, limits), should_stop)
    except DeadlinePassed:
        return None
    except Stopped as error:
        raise MediaError("cancelled", f"{info.path}: decoding was cancelled", retryable=True) from error
