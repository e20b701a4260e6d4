"""Audio samples from the bytes of a pipe."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class SampleBlocks:
    """Parses 16-bit little-endian samples from blocks of any size and passes them on.

    Args:
        on_samples: receives int16[m] samples, m > 0 a multiple of `multiple`.
        multiple: pass on only multiples of this number of samples; the rest waits for the next block.
    """

    def __init__(self, on_samples: Callable[[NDArray[np.int16]], None], multiple: int = 1) -> None:
        self._on_samples = on_samples
        self._size = 2 * multiple
        self._rest = b""

    def add(self, block: bytes) -> None:
        joined = self._rest + block
        complete = len(joined) // self._size * self._size
        self._rest = joined[complete:]
        if complete:
            self._on_samples(np.frombuffer(joined[:complete], "<i2"))
