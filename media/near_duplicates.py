"""Find neighbouring segments that show the same still picture with the same steady sound: slides, static cameras, black.

Pictures are compared block by block, as in ffmpeg's filter `mpdecimate`: a mean over the picture would not notice a new
line of text. All frames of a segment are compared with the first frame of the first such segment, not with their
neighbours, so that slow changes accumulate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptreel.media.analysis import MediaAnalysis, frames_of_span
from promptreel.media.timeline import Timeline
from promptreel.schemas.media import SampledFrame, TimeSpan

Picture = NDArray[np.uint8]  # uint8[height, width, 3]: luma and both colour differences

_BLOCK: Final = 8  # pixels
# Maximum mean difference (0..255) of a channel in any block: that of camera noise on a plain area, and this share (of luma,
# and of both colour differences) of the contrast (standard deviation of luma) that both pictures have there. Compression
# changes the edges of letters by up to an eighth of it. One changed digit in print of 9 pixels differs by more than a
# quarter of it.
_NOISE: Final = 5.0
_NOISE_OF_CONTRAST: Final = np.array([0.15, 0.05, 0.05], np.float32)
# Loudness of steady background sound varies less than this; anything below the floor counts as silence.
_STEADY_DB: Final = 6.0
_SILENCE_DBFS: Final = -60.0


def find_near_duplicates(
    analysis: MediaAnalysis,
    timeline: Timeline,
    spans: Sequence[TimeSpan],
    load: Callable[[SampledFrame], Picture],
    *,
    with_sound: bool = True,
) -> list[int]:
    """Return, for each segment, the position of the segment whose content it repeats: the first of a row of neighbours with
    the same content, or its own position if it repeats none.

    Args:
        spans: consecutive segments of the item.
        load: returns a sampled frame; called only as long as a segment may be a duplicate.
        with_sound: whether segments with speech or changing sound differ.

    Returns:
        list[int] of the length of `spans`.
    """
    found: list[int] = []
    first: int | None = None  # the still segment with which the next one is compared
    picture: Picture | None = None
    for number, span in enumerate(spans):
        frames = frames_of_span(analysis.frames, span)
        if not frames or (with_sound and has_speech(analysis, span)):
            first = None
        elif (
            first is not None
            and picture is not None
            and (not with_sound or is_steady_sound(timeline, [spans[first], span]))
            and all(is_near_duplicate(picture, load(frame)) for frame in frames)
        ):
            found.append(first)
            continue
        elif not with_sound or is_steady_sound(timeline, [span]):
            start = picture = load(frames[0])
            first = number if all(is_near_duplicate(start, load(frame)) for frame in frames[1:]) else None
        else:
            first = None
        found.append(number)
    return found


def is_near_duplicate(one: Picture, two: Picture) -> bool:
    """Return whether two pictures of the same item differ by no more than noise in any block of 8 x 8 pixels."""
    if one.shape != two.shape:
        return False
    if np.array_equal(one, two):
        return True
    differences = _block_means(np.maximum(one, two) - np.minimum(one, two))
    if differences.max() <= _NOISE:
        return True
    allowed = _NOISE + _NOISE_OF_CONTRAST * np.minimum(_contrasts(one), _contrasts(two))
    return bool((differences <= allowed).all())


def has_speech(analysis: MediaAnalysis, span: TimeSpan) -> bool:
    """Return whether the speech detector found speech in a span. A level detector does not tell speech from noise."""
    activity = analysis.activity
    return activity.detector == "silero" and any(
        part.start_us < span.end_us and part.end_us > span.start_us for part in activity.spans
    )


def is_steady_sound(timeline: Timeline, spans: Sequence[TimeSpan]) -> bool:
    """Return whether the sound of all spans together is silence or steady background sound; True without sound."""
    if not len(timeline.loudness_dbfs):
        return True
    levels = np.concatenate([timeline.loudness_dbfs[timeline.sound_bins(span)] for span in spans])
    levels = np.maximum(levels, _SILENCE_DBFS)
    return bool(levels.max() - levels.min() <= _STEADY_DB)


def load_picture(path: Path) -> Picture:
    """Load a JPEG.

    Raises:
        OSError: the file cannot be read.
    """
    with Image.open(path) as image:
        return np.asarray(image.convert("YCbCr"))


def _block_means(values: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.float32]:
    """Return the mean of each block and channel of integers [h, w, c]; those at the lower and right edges may be smaller."""
    height, width = values.shape[:2]
    rows, columns = np.arange(0, height, _BLOCK), np.arange(0, width, _BLOCK)
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0, dtype=np.uint32), columns, axis=1)
    sizes = np.diff(rows, append=height)[:, None, None] * np.diff(columns, append=width)[None, :, None]
    return np.asarray(sums / sizes, np.float32)


def _contrasts(picture: Picture) -> NDArray[np.float32]:
    """Return the standard deviation of luma in each block, float32[rows, columns, 1]."""
    luma = picture[..., :1].astype(np.uint32)
    variances = np.maximum(_block_means(luma * luma) - _block_means(luma) ** 2, 0)
    return np.asarray(np.sqrt(variances), np.float32)
