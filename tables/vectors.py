"""Vectors of committed tables as memory-mapped float32, and the exact search for the nearest of them.

All vectors are of unit length, so that a dot product is a cosine.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promptreel.schemas.errors import StorageError

Vectors = NDArray[np.float32]
Numbers = NDArray[np.intp]

# Scores closer than this are equal: the same vector at two places of a matrix may differ in its last bits.
RESOLUTION: Final = 1e-6
_MAP_ABOVE_BYTES: Final = 1 << 20  # smaller files are read whole: a mapping holds a file descriptor
_BLOCK_ROWS: Final = 16_384  # rows of which scores are made, or that are copied, at once
_TAKE_BELOW: Final = 0.3  # share of rows below which copying them out is cheaper than multiplying all


def write_vectors(path: Path, count: int, dimension: int, pieces: Iterable[Vectors]) -> None:
    """Writes pieces of float32[n, dimension], `count` rows together, as one .npy file, without holding them all.

    A number that is none (NaN, infinity) becomes 0.
    """
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, dimension))
    at = 0
    for piece in pieces:
        out[at : at + len(piece)] = np.nan_to_num(piece, nan=0, posinf=0, neginf=0)
        at += len(piece)
    if at != count:
        raise ValueError(f"{path}: {at} vectors came where {count} were announced")
    out.flush()


def open_vectors(path: Path) -> Vectors:
    """float32[n, d]; a large file stays on disk and is read where it is touched.

    Raises:
        StorageError: it is missing, or no such file.
    """
    try:
        mapped = path.stat().st_size > _MAP_ABOVE_BYTES
        vectors: Vectors = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StorageError(f"{path}: are no readable vectors ({error}); remove it, it is made again") from error
    if vectors.dtype != np.float32 or vectors.ndim != 2:
        raise StorageError(f"{path}: holds {vectors.dtype}{list(vectors.shape)}, not float32[n, d]; remove it")
    return vectors.view(np.ndarray)


def similarities(vectors: Vectors, query: Vectors, rows: Numbers | None = None) -> Vectors:
    """The cosine of each row with a query, float32[n]; of some rows alone where these are given.

    Few rows are taken out before the product, so that a narrow filter makes it cheaper.
    """
    if rows is None or len(rows) >= _TAKE_BELOW * len(vectors):
        scores: Vectors = np.matmul(vectors, query)
        return scores if rows is None else scores[rows]
    scores = np.empty(len(rows), np.float32)
    for first in range(0, len(rows), _BLOCK_ROWS):
        taken = rows[first : first + _BLOCK_ROWS]
        scores[first : first + len(taken)] = np.matmul(vectors[taken], query)
    return scores


def best_of(scores: Vectors, count: int) -> Numbers:
    """Positions of the highest scores, best first. Scores within RESOLUTION are equal, and keep their order."""
    found: Numbers = np.arange(len(scores))
    if 0 < count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        found = np.flatnonzero(scores >= least - 2 * RESOLUTION)
    order = np.lexsort((found, -resolved(scores[found])))
    return found[order[:count]]


def resolved(scores: Vectors) -> NDArray[np.int64]:
    """Scores as whole multiples of RESOLUTION, by which rankings compare them."""
    return np.rint(scores.astype(np.float64) / RESOLUTION).astype(np.int64)


def nearest(vectors: Vectors, query: Vectors, count: int, rows: Numbers | None = None) -> tuple[Numbers, Vectors]:
    """(row numbers, cosines) of the exactly nearest rows, best first, equal ones by their number.

    Args:
        rows: numbers of the rows that may be found, ascending; None allows all.
    """
    scores = similarities(vectors, query, rows)
    best = best_of(scores, count)
    return (best if rows is None else rows[best]), scores[best]
