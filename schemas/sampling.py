"""Random samples that a seed reproduces. A larger sample with the same seed contains the smaller one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from promptreel.schemas.decoding import FORBID_UNKNOWN
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.ids import digest

SampleUnit = Literal["segments", "items"]
SAMPLE_UNITS: Final[tuple[SampleUnit, ...]] = get_args(SampleUnit)
MAX_SAMPLE: Final = 1_000_000


@dataclass(frozen=True)
class SampleSettings:
    """A sample of a run's target.

    Attributes:
        count: number of segments or items, from 1.
        unit: "segments" are spread evenly over the items, with a random choice within each; "items" are complete.
        seed: the same seed chooses the same sample of the same target.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    count: int
    unit: SampleUnit = "segments"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or not 1 <= self.count <= MAX_SAMPLE:
            raise SettingsError(f"sample is {self.count!r}; it must be a whole number from 1 to {MAX_SAMPLE}")
        if self.unit not in SAMPLE_UNITS:
            raise SettingsError(f"sample unit is {self.unit!r}; use {' or '.join(SAMPLE_UNITS)}")


def random_order(names: Sequence[str], seed: int) -> list[int]:
    """Return the positions of the names in a random order that depends only on the seed and on each name.

    >>> sorted(random_order(["a", "b", "c"], 1))
    [0, 1, 2]
    """
    return sorted(range(len(names)), key=lambda at: (digest([seed, names[at]]), at))


def share_out(count: int, least: Sequence[int], most: Sequence[int]) -> list[int]:
    """Share a count out over items as evenly as their capacities allow; earlier items get the remainder.

    Args:
        least, most: number of segments that each item has at least and at most. Shares above `least` are given only if the
            count does not fit otherwise, because the item may not have them.

    >>> share_out(7, [1, 9, 9], [1, 9, 9])
    [1, 3, 3]
    """
    shares = [0] * len(least)
    for capacities in (least, most):
        while count > 0 and (free := [at for at, share in enumerate(shares) if share < capacities[at]]):
            for at in free[:count]:
                shares[at] += 1
            count -= len(free[:count])
    return shares
