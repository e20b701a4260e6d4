"""Fixtures of the media tests."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from promptreel.media.decode import decode_media
from promptreel.media.probe import probe_media
from promptreel.schemas.settings import MediaLimits, SamplingSettings
from tests.media.decode_pass import DecodePass
from tests.media_files import (
    Pictures,
    Sound,
)


@pytest.fixture
def decoded(tmp_path: Path) -> Callable[..., DecodePass]:
    """A function that decodes a file. Its keywords are fields of `SamplingSettings`."""

    def run(path: Path, limits: MediaLimits | None = None, **sampling: float) -> DecodePass:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        frames: list[Pictures] = [np.zeros((0, 36, 64, 3), np.uint8)]
        times: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        sound: list[Sound] = [np.zeros(0, np.int16)]

        def on_frames(block: Pictures, times_us: NDArray[np.int64]) -> None:
            assert len(block) == len(times_us) > 0
            frames.append(block)
            times.append(times_us)

        info = probe_media(path)
        settings = SamplingSettings(**sampling)  # type: ignore[arg-type]
        media = decode_media(info, folder, settings, limits or MediaLimits(), on_frames, sound.append)
        return DecodePass(info, media, folder, np.concatenate(frames), np.concatenate(times), np.concatenate(sound))

    return run
