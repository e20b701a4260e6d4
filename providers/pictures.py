"""Which sampled frames of a segment are embedded, and which of them are near-identical."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptreel.schemas.media import SampledFrame, TimeSpan

# A frame is sharp enough when its sharpness reaches this share of the segment's sharpest: blur of motion or of a fade
# takes more than half away.
SHARP_SHARE: Final = 0.5
# Hashes of 64 bits that differ in at most this many show the same picture: compression noise flips a few.
SAME_BITS: Final = 4
# Mean colours of one picture differ by less than this, of 255, whatever the quality it was saved in. A hash does not see
# colour, and hardly sees a fade to black.
SAME_COLOUR: Final = 12


@dataclass(frozen=True, slots=True)
class PictureSummary:
    """What a quick look at a picture says.

    Attributes:
        sharpness: variance of the Laplacian of luma 0..255 at a width of 128 pixels (Pech-Pacheco and others, "Diatom
            autofocusing in brightfield microscopy", 2000).
        hash: 64-bit difference hash: whether each of 8 x 8 cells is brighter than its right neighbour (N. Krawetz,
            "Kind of Like That", 2013).
        colour: mean red, green and blue, 0..255.
    """

    sharpness: float
    hash: int
    colour: tuple[int, int, int]


def summarize_picture(path: Path) -> PictureSummary:
    """Looks at a JPEG, decoded at a fraction of its size.

    Raises:
        OSError: it cannot be read.
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
    frames: Sequence[SampledFrame], looks: Sequence[PictureSummary], span: TimeSpan, count: int
) -> tuple[SampledFrame, ...]:
    """At most `count` frames of a segment in order of time: its first sharp one, the one at its middle, then each time the
    one that is farthest from those."""
    if not frames:
        return ()
    sharpest = max(look.sharpness for look in looks)
    first = next(n for n, look in enumerate(looks) if look.sharpness >= SHARP_SHARE * sharpest)
    middle = _nearest(frames, (span.start_us + span.end_us) // 2)
    chosen = [first, middle][:count] if first != middle else [first]
    while len(chosen) < min(count, len(frames)):
        others = [number for number in range(len(frames)) if number not in chosen]
        chosen.append(max(others, key=lambda other: min(_apart_us(frames, other, number) for number in chosen)))
    return tuple(frames[number] for number in sorted(chosen))


def find_repeats(looks: Sequence[PictureSummary]) -> tuple[int | None, ...]:
    """For each picture of a sequence the number of the earlier one that it repeats, None where it is new.

    It is held against the last new picture, not its neighbour: a slow change must not carry one name along for ever.
    """
    found: list[int | None] = []
    last: int | None = None
    for number, look in enumerate(looks):
        if last is not None and is_same_picture(look, looks[last]):
            found.append(last)
            continue
        found.append(None)
        last = number
    return tuple(found)


def is_same_picture(one: PictureSummary, two: PictureSummary) -> bool:
    """Whether two looks are at near-identical pictures."""
    near = all(abs(a - b) < SAME_COLOUR for a, b in zip(one.colour, two.colour, strict=True))
    return near and (one.hash ^ two.hash).bit_count() <= SAME_BITS


def _apart_us(frames: Sequence[SampledFrame], one: int, two: int) -> int:
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
