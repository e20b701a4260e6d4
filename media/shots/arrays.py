"""Array types and chunking."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
CHUNK = 4096  # frames per step of detection: about 30 MB of temporaries


def chunks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Split the range [first, last) into consecutive ranges of at most `CHUNK` frames."""
    for start in range(first, last, CHUNK):
        yield start, min(start + CHUNK, last)
