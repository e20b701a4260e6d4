"""Sinks for the decode pass: they parse what ffmpeg writes and pass on complete frames and samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promptreel.media.sample_blocks import SampleBlocks
from promptreel.media.shots import FRAME_HEIGHT, FRAME_WIDTH
from promptreel.media.speech import SAMPLE_RATE
from promptreel.schemas.mediatime import US_PER_SECOND

_FRAME_BYTES: Final = FRAME_WIDTH * FRAME_HEIGHT * 3
_FRAMES_PER_CALL: Final = 64

OnFrames = Callable[[NDArray[np.uint8], NDArray[np.int64]], None]
OnSound = Callable[[NDArray[np.int16]], None]


class FrameTimes:
    """Parses frame times in microseconds from the output of ffmpeg's metadata filter: `frame:0    pts:0    pts_time:0`."""

    def __init__(self) -> None:
        self.values: list[int] = []
        self._rest = b""

    def add(self, block: bytes) -> None:
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            if line.startswith(b"frame:"):
                value = line.split(b"pts:", 1)[1].split(None, 1)[0]
                previous = self.values[-1] if self.values else 0
                self.values.append(previous if value == b"NOPTS" else int(value))


class DecodeSinks:
    """The sinks of one decode pass.

    Attributes:
        frame_count: small frames passed on so far.
        last_us: time of the last of them.
        step_us: median time between recent frames; None before the second frame.
        samples: audio samples passed on so far.
    """

    def __init__(self, on_frames: OnFrames, on_sound: OnSound) -> None:
        self.times = FrameTimes()
        self.sample_times = FrameTimes()
        self.frame_count = 0
        self.last_us = 0
        self.step_us: int | None = None
        self.samples = 0
        self._on_frames = on_frames
        self._on_sound = on_sound
        self._pixels = bytearray()
        self._sample_blocks = SampleBlocks(self._pass_on_samples)

    @property
    def is_empty(self) -> bool:
        return self.frame_count == 0 and self.samples == 0

    @property
    def sound_end_us(self) -> int:
        return self.samples * US_PER_SECOND // SAMPLE_RATE

    def add_frames(self, block: bytes) -> None:
        self._pixels += block
        self._flush(_FRAMES_PER_CALL)

    def add_sound(self, block: bytes) -> None:
        self._sample_blocks.add(block)

    def finish(self) -> None:
        """Pass on the remaining frames."""
        self._flush(1)

    def _pass_on_samples(self, samples: NDArray[np.int16]) -> None:
        self.samples += len(samples)
        self._on_sound(samples)

    def _flush(self, min_frames: int) -> None:
        """Pass on frames whose times are known: the times may arrive after the pixels."""
        count = min(len(self._pixels) // _FRAME_BYTES, len(self.times.values))
        if count < min_frames:
            return
        pixels = np.frombuffer(bytes(self._pixels[: count * _FRAME_BYTES]), np.uint8)
        del self._pixels[: count * _FRAME_BYTES]
        times = np.maximum.accumulate(np.maximum(np.array(self.times.values[:count], np.int64), self.last_us))
        del self.times.values[:count]
        self._on_frames(pixels.reshape(count, FRAME_HEIGHT, FRAME_WIDTH, 3), times)
        gaps = np.diff(times, prepend=[self.last_us] * bool(self.frame_count))
        if len(gaps):
            self.step_us = int(np.median(gaps))
        self.frame_count += count
        self.last_us = int(times[-1])
