"""Choose sampled frames that represent a segment, and find near-identical ones."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptreel.schemas.media import SampledFrame, TimeSpan

# A frame is sharp enough if its sharpness reaches this share of the segment's sharpest frame: motion blur or a fade
# takes away more than half.
MIN_SHARPNESS_SHARE: Final = 0.5
# Maximum number of differing bits of two 64-bit hashes of the same picture: compression noise flips a few.
MAX_DIFFERING_BITS: Final = 4
# Mean colours (0..255) of the same picture differ by less than this at any JPEG quality. The hash ignores colour, and
# hardly changes in a fade to black.
MAX_COLOUR_DIFFERENCE: Final = 12


@dataclass(frozen=True, slots=True)
class PictureSummary:
    """Features of a picture that are cheap to compute.

    Attributes:
        sharpness: variance of the Laplacian of luma 0..255 at a width of 128 pixels (Pech-Pacheco and others, "Diatom
            autofocusing in brightfield microscopy", 2000).
        hash: 64-bit difference hash: one bit for each of 8 x 8 cells, set if the cell is brighter than its right neighbour
            (N. Krawetz, "Kind of Like That", 2013).
        colour: mean red, green and blue, 0..255.
    """

    sharpness: float
    hash: int
    colour: tuple[int, int, int]


def summarize_picture(path: Path) -> PictureSummary:
    """Summarize a JPEG, decoded at a fraction of its size.

    Raises:
        OSError: the file cannot be read.
    """
    with Image.open(path) as image:
        image.draft("RGB", (256, 256))
        picture = image.convert("RGB")
        grey = picture.convert("L")
        width = 128
        height = max(3, round(grey.height * width / max(1, grey.width)))
        small = np.asarray(grey.resize((width, height), Image.Resampling.BOX), np.float32)
        cells = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.int16)
        red, green, blue = np.asarray(picture.resize((1, 1), Image.Resampling.BOX))[0, 0].tolist()
    return PictureSummary(_sharpness(small), _difference_hash(cells), (red, green, blue))


def choose_frames(
    frames: Sequence[SampledFrame],
    summaries: Sequence[PictureSummary],
    span: TimeSpan,
    count: int,
    cuts_us: Sequence[int] | None = None,
) -> tuple[SampledFrame, ...]:
    """Choose up to `count` frames of a segment, returned in order of time.

    By time: the first sharp frame, the middle one, then repeatedly the one farthest in time from those chosen. By content:
    the first sharp frame of each shot, the longest shots first; then repeatedly the frame that differs most from those
    chosen, sharp frames first, or the one farthest in time if all others are repeats (Gonzalez, "Clustering to minimize the
    maximum intercluster distance", 1985).

    Args:
        cuts_us: shot changes of the item in ascending order, to choose by content; None chooses by time.
    """
    if not frames:
        return ()
    if cuts_us is None:
        sharp: frozenset[int] = frozenset()
        first = _first_sharp(range(len(frames)), summaries)
        chosen = list(dict.fromkeys((first, _nearest(frames, (span.start_us + span.end_us) // 2))))[:count]
    else:
        shots = _shots(frames, span, cuts_us)
        sharp = frozenset(number for shot in shots for number in _sharp_frames(shot, summaries))
        chosen = [_first_sharp(shot, summaries) for shot in shots[:count]]

    def gain(number: int) -> tuple[bool, bool, int, int]:
        difference = 0
        if cuts_us is not None:
            difference = min(_difference(summaries[number], summaries[other]) for other in chosen)
        distance_us = min(_distance_us(frames, other, number) for other in chosen)
        return difference > 0, difference > 0 and number in sharp, difference, distance_us

    while len(chosen) < min(count, len(frames)):
        chosen.append(max((number for number in range(len(frames)) if number not in chosen), key=gain))
    return tuple(frames[number] for number in sorted(chosen))


def find_repeats(summaries: Sequence[PictureSummary]) -> tuple[int | None, ...]:
    """Return, for each picture of a sequence, the index of the earlier picture that it repeats; None if it is new.

    Each picture is compared with the last new one, not with its neighbour, so that slow changes accumulate.
    """
    repeats: list[int | None] = []
    last: int | None = None
    for number, summary in enumerate(summaries):
        if last is not None and is_same_picture(summary, summaries[last]):
            repeats.append(last)
            continue
        repeats.append(None)
        last = number
    return tuple(repeats)


def is_same_picture(one: PictureSummary, two: PictureSummary) -> bool:
    """Return whether two summaries describe near-identical pictures."""
    near = all(abs(a - b) < MAX_COLOUR_DIFFERENCE for a, b in zip(one.colour, two.colour, strict=True))
    return near and (one.hash ^ two.hash).bit_count() <= MAX_DIFFERING_BITS


def _shots(frames: Sequence[SampledFrame], span: TimeSpan, cuts_us: Sequence[int]) -> list[range]:
    """Return the positions of the frames of each shot of a segment that has any, the longest shots first."""
    edges_us = [span.start_us, *(cut for cut in cuts_us if span.start_us < cut < span.end_us), span.end_us]
    firsts = [0, *(bisect_left(frames, edge, key=lambda frame: frame.time_us) for edge in edges_us[1:-1]), len(frames)]
    lengths_us = [end - start for start, end in pairwise(edges_us)]
    shots = [(length, range(*ends)) for length, ends in zip(lengths_us, pairwise(firsts), strict=True)]
    return [shot for _, shot in sorted(shots, key=lambda part: -part[0]) if shot]


def _first_sharp(shot: range, summaries: Sequence[PictureSummary]) -> int:
    return next(_sharp_frames(shot, summaries))


def _sharp_frames(shot: range, summaries: Sequence[PictureSummary]) -> Iterator[int]:
    sharpest = max(summaries[number].sharpness for number in shot)
    return (number for number in shot if summaries[number].sharpness >= MIN_SHARPNESS_SHARE * sharpest)


def _difference(one: PictureSummary, two: PictureSummary) -> int:
    """Return how much two pictures differ; 0 if they are near-identical."""
    if is_same_picture(one, two):
        return 0
    colours = sum(abs(a - b) for a, b in zip(one.colour, two.colour, strict=True))
    return (one.hash ^ two.hash).bit_count() + colours // MAX_COLOUR_DIFFERENCE


def _distance_us(frames: Sequence[SampledFrame], one: int, two: int) -> int:
    return abs(frames[one].time_us - frames[two].time_us)


def _nearest(frames: Sequence[SampledFrame], time_us: int) -> int:
    return min(range(len(frames)), key=lambda number: (abs(frames[number].time_us - time_us), number))


def _sharpness(luma: NDArray[np.float32]) -> float:
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    return float(laplacian.var())


def _difference_hash(cells: NDArray[np.int16]) -> int:
    bits = (cells[:, :-1] > cells[:, 1:]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes())
