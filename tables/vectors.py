"""Memory-mapped float32 vectors of committed tables, and exact nearest-neighbour search over them.

All vectors have unit length, so a dot product is a cosine.
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

# Scores closer than this are equal: the scores of the same vector in two rows of a matrix may differ in the last bits.
RESOLUTION: Final = 1e-6
_MAP_ABOVE_BYTES: Final = 1 << 20  # smaller files are read into memory, because a mapping holds a file descriptor
_BLOCK_ROWS: Final = 16_384  # rows that are scored or copied at once
_MAX_COPY_SHARE: Final = 0.3  # share of rows below which copying them first is cheaper than scoring all rows


def write_vectors(path: Path, count: int, dimension: int, batches: Iterable[Vectors]) -> None:
    """Write batches of float32[n, dimension], `count` rows in total, to one .npy file without holding them all.

    NaN and infinity become 0.

    Raises:
        ValueError: the batches do not have `count` rows.
    """
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, dimension))
    at = 0
    for batch in batches:
        out[at : at + len(batch)] = np.nan_to_num(batch, nan=0, posinf=0, neginf=0)
        at += len(batch)
    if at != count:
        raise ValueError(f"{path}: {at} vectors instead of {count}")
    out.flush()


def open_vectors(path: Path) -> Vectors:
    """Load float32[n, d]; a large file is memory-mapped.

    Raises:
        StorageError: the file is missing or has no such vectors.
    """
    try:
        mapped = path.stat().st_size > _MAP_ABOVE_BYTES
        vectors: Vectors = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StorageError(f"{path}: unreadable vectors ({error}); delete the file, it is rebuilt") from error
    if vectors.dtype != np.float32 or vectors.ndim != 2:
        raise StorageError(
            f"{path}: {vectors.dtype}{list(vectors.shape)} is not float32[n, d]; delete the file, it is rebuilt"
        )
    return vectors.view(np.ndarray)


def similarities(vectors: Vectors, query: Vectors, rows: Numbers | None = None) -> Vectors:
    """Cosine of each row, or of the selected `rows`, with a query: float32[n].

    A small selection is copied first, so that a narrow filter costs less.
    """
    if rows is None or len(rows) >= _MAX_COPY_SHARE * len(vectors):
        scores: Vectors = np.matmul(vectors, query)
        return scores if rows is None else scores[rows]
    scores = np.empty(len(rows), np.float32)
    for first in range(0, len(rows), _BLOCK_ROWS):
        selected = rows[first : first + _BLOCK_ROWS]
        scores[first : first + len(selected)] = np.matmul(vectors[selected], query)
    return scores


def best_of(scores: Vectors, count: int) -> Numbers:
    """Positions of the highest scores, best first. Scores within RESOLUTION are equal and stay in order."""
    found: Numbers = np.arange(len(scores))
    if 0 < count < len(scores):
        threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
        found = np.flatnonzero(scores >= threshold - 2 * RESOLUTION)
    order = np.lexsort((found, -resolved(scores[found])))
    return found[order[:count]]


def resolved(scores: Vectors) -> NDArray[np.int64]:
    """Scores as integer multiples of RESOLUTION, for comparison in rankings."""
    return np.rint(scores.astype(np.float64) / RESOLUTION).astype(np.int64)


def nearest(vectors: Vectors, query: Vectors, count: int, rows: Numbers | None = None) -> tuple[Numbers, Vectors]:
    """(row numbers, cosines) of the nearest rows by exact search, best first, ties by row number.

    Args:
        rows: row numbers to search, ascending; None searches all.
    """
    scores = similarities(vectors, query, rows)
    best = best_of(scores, count)
    return (best if rows is None else rows[best]), scores[best]
