"""How far the timestamps of an MPEG recording can be used as they are."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from promptreel.media.bounded import DeadlinePassed, Limits, Stopped, run_bounded
from promptreel.media.ffmpeg import FORMAT_WHITELIST, PROTOCOL_WHITELIST
from promptreel.schemas.media import MediaInfo

# Formats whose clock may change in the middle, as in joined recordings.
DISCONTINUOUS_CONTAINERS: Final = frozenset({"mpegts", "mpeg"})
MAX_OVERLAP_US: Final = 1_000_000
MAX_GAP_US: Final = 10_000_000  # ffmpeg's dts_delta_threshold

_CHILD: Final = Path(__file__).with_name("timestamps_child.py")
_DEADLINE_S: Final = 120.0
_MEMORY_BYTES: Final = 2 << 30


@dataclass(frozen=True, slots=True)
class Clock:
    """How the decoder must treat the timestamps of a file.

    Attributes:
        is_continuous: the timestamps follow one clock and are used as they are. Otherwise ffmpeg shifts timestamps after
            a jump, but also after an overlap of a tenth of a second, which is common where two parts meet.
        jumps: the clock starts again or jumps ahead, so the duration in the header is meaningless.
        changes_sample_rate: audio frames between two timestamps are timed by their number of samples; ffmpeg's reader
            would time them by the first sample rate of the file.
    """

    is_continuous: bool = False
    jumps: bool = False
    changes_sample_rate: bool = False


def read_clock(info: MediaInfo, should_stop: Callable[[], bool] | None = None) -> Clock:
    """Read the timestamps of every packet of an MPEG recording, without decoding any.

    Returns the decoder's defaults for other formats, and for a file that cannot be read to its end in time.
    """
    if info.container not in DISCONTINUOUS_CONTAINERS:
        return Clock()
    indexes = [info.video.index] if info.video is not None else []
    indexes += [info.audio_index] if info.audio_index is not None else []
    command = [sys.executable, "-I", str(_CHILD), f"file:{Path(info.path).absolute()}"]
    command += [FORMAT_WHITELIST, PROTOCOL_WHITELIST, *map(str, indexes)]
    try:
        done, output = run_bounded(command, Limits(_DEADLINE_S, _MEMORY_BYTES, file_bytes=0), should_stop)
    except (DeadlinePassed, Stopped):
        return Clock()
    if done.returncode != 0:
        return Clock()
    found = json.loads(output)
    jumps = found["back_us"] > MAX_OVERLAP_US or found["forward_us"] > MAX_GAP_US
    return Clock(not jumps, jumps, found["changes_sample_rate"])
