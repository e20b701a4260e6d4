"""A quantity that is not known yet: its lowest, expected and highest value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Spread:
    """Low, expected and high values of one quantity."""

    low: float = 0.0
    expected: float = 0.0
    high: float = 0.0

    @classmethod
    def exactly(cls, value: float) -> Spread:
        """Return the spread of a known value."""
        return cls(value, value, value)

    @classmethod
    def around(cls, value: float, error: float) -> Spread:
        """Return a value with a relative error of 0 to 1."""
        return cls(value * (1 - error), value, value * (1 + error))

    def __add__(self, other: Spread) -> Spread:
        return Spread(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __mul__(self, other: Spread) -> Spread:
        return Spread(self.low * other.low, self.expected * other.expected, self.high * other.high)

    def scaled(self, factor: float) -> Spread:
        """Return all values times a factor."""
        return Spread(self.low * factor, self.expected * factor, self.high * factor)

    def bounds(self) -> tuple[float, float, float]:
        """Return (low, expected, high)."""
        return self.low, self.expected, self.high

    def amounts(self) -> dict[str, float]:
        """Return amounts of money as JSON values, in units of their currency."""
        return {"low": round(self.low, 9), "expected": round(self.expected, 9), "high": round(self.high, 9)}

    def rounded(self) -> dict[str, int]:
        """Return whole numbers as JSON values."""
        return {"low": round(self.low), "expected": round(self.expected), "high": round(self.high)}


ZERO: Final = Spread()


def total(spreads: Iterable[Spread]) -> Spread:
    """Return the sum of spreads."""
    return sum(spreads, ZERO)
