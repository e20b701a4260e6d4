"""Samples of an item's sound, read in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promptreel.schemas.errors import ModelError
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.mediatime import US_PER_SECOND

SAMPLE_RATE: Final = 16_000


def samples_of_spans(audio_file: Path, spans: Sequence[TimeSpan]) -> Iterator[NDArray[np.float32]]:
    """float32[n] samples of each span of a 16 kHz mono file, spans in order and apart."""
    wanted = [(sample_at(span.start_us), sample_at(span.end_us)) for span in spans]
    number, first, held = 0, 0, 0  # next span; sample at which the waiting ones begin; how many wait
    waiting: list[NDArray[np.float32]] = []

    def take() -> NDArray[np.float32]:
        """Cuts the next span out of what waits, and forgets what lies before the one behind it."""
        nonlocal number, first, held, waiting
        joined = np.concatenate(waiting) if waiting else np.zeros(0, np.float32)
        start, end = wanted[number]
        found = joined[max(0, start - first) : max(0, end - first)].copy()
        number += 1
        rest = joined[max(0, (wanted[number][0] if number < len(wanted) else end) - first) :].copy()
        first, held, waiting = first + held - len(rest), len(rest), [rest]
        return found

    for samples in _samples_of_file(audio_file):
        if first + held + len(samples) <= wanted[number][0]:
            first, held, waiting = first + held + len(samples), 0, []
            continue
        waiting.append(samples)
        held += len(samples)
        while number < len(wanted) and first + held >= wanted[number][1]:
            yield take()
        if number == len(wanted):
            return
    missing = wanted[-1][1] - first - held
    if missing > SAMPLE_RATE:
        message = (
            f"{audio_file}: ends {missing / SAMPLE_RATE:.1f} s before the speech that was found in it; analyse it again"
        )
        raise ModelError("transcription_failed", message)
    while number < len(wanted):  # the sound ends a little before the item does
        yield take()


def _samples_of_file(audio_file: Path) -> Iterator[NDArray[np.float32]]:
    import av

    try:
        with av.open(str(audio_file)) as container:
            for frame in container.decode(audio=0):
                yield frame.to_ndarray().reshape(-1).astype(np.float32) / np.float32(32768)
    except (OSError, ValueError, IndexError) as error:  # PyAV's errors; no sound track is an IndexError
        raise ModelError("transcription_failed", f"{audio_file}: cannot be read ({error})") from error


def sample_at(time_us: int) -> int:
    """The sample at a moment."""
    return time_us * SAMPLE_RATE // US_PER_SECOND
