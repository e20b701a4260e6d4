"""The result of a decode pass, for tests: sampled pictures, small frames with their times, and sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptreel.media.decode import DecodedMedia
from promptreel.media.probe import probe_media
from promptreel.schemas.media import MediaInfo
from tests.media_files import (
    RATE,
    Pictures,
    Sound,
    colour_of,
    read_pictures,
)

EVERY_FRAME = ("-bf", 0)  # no B-frames, so no frame is skipped


@dataclass(frozen=True)
class DecodePass:
    """The output of one decode pass: its result, the small frames with their times, and the sound."""

    info: MediaInfo
    media: DecodedMedia
    folder: Path
    frames: Pictures
    times_us: NDArray[np.int64]
    sound: Sound

    @property
    def sampled(self) -> list[tuple[int, str]]:
        """(time, colour) of each sampled picture."""
        return [(frame.time_us, colour_of(self.picture(number))) for number, frame in enumerate(self.media.frames)]

    def picture(self, number: int) -> Pictures:
        """Return a sampled picture, uint8[h, w, 3]."""
        path = self.folder / self.media.frames[number].file
        size = image_size(path)
        return read_pictures(path, size)[0]


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of a picture or video as displayed."""
    video = probe_media(path).video
    assert video is not None
    return video.display_size


Decode = Callable[..., DecodePass]


def onset_s(sound: Sound) -> float:
    """Return the time of the first audible sample."""
    return float(np.flatnonzero(np.abs(sound.astype(int)) > 2000)[0]) / RATE
