"""Read samples of an item's sound in one pass."""

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
    """Yield the float32[n] samples of each span of a 16 kHz mono file.

    Args:
        spans: at least one, ordered and disjoint.

    Raises:
        ModelError: the file cannot be read, or ends more than a second before the last span.
    """
    ranges = [(sample_at(span.start_us), sample_at(span.end_us)) for span in spans]
    number, first, count = 0, 0, 0  # next span; index of the first buffered sample; number of buffered samples
    buffer: list[NDArray[np.float32]] = []

    def take() -> NDArray[np.float32]:
        """Return the next span from the buffer, and drop what no later span needs."""
        nonlocal number, first, count, buffer
        joined = np.concatenate(buffer) if buffer else np.zeros(0, np.float32)
        start, end = ranges[number]
        found = joined[max(0, start - first) : max(0, end - first)].copy()
        number += 1
        rest = joined[max(0, (ranges[number][0] if number < len(ranges) else end) - first) :].copy()
        first, count, buffer = first + count - len(rest), len(rest), [rest]
        return found

    for samples in _samples_of_file(audio_file):
        if first + count + len(samples) <= ranges[number][0]:
            first, count, buffer = first + count + len(samples), 0, []
            continue
        buffer.append(samples)
        count += len(samples)
        while number < len(ranges) and first + count >= ranges[number][1]:
            yield take()
        if number == len(ranges):
            return
    missing = ranges[-1][1] - first - count
    if missing > SAMPLE_RATE:
        message = (
            f"{audio_file}: ends {missing / SAMPLE_RATE:.1f} s before the speech that was found in it; analyse it again"
        )
        raise ModelError("transcription_failed", message)
    while number < len(ranges):  # the sound ends slightly before the item
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
    """Return the index of the sample at a time."""
    return time_us * SAMPLE_RATE // US_PER_SECOND
