"""Media time: integer microseconds internally, float seconds on the wire.

>>> us_from_seconds("1.5")
1500000
>>> seconds_from_us(1_500_000)
1.5
>>> format_timecode(3_725_040_000)
'1:02:05.04'
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

US_PER_SECOND = 1_000_000


def us_from_seconds(seconds: int | float | str | Decimal | Fraction) -> int:
    """Convert seconds to microseconds, rounding half to even; a float counts as its shortest decimal representation."""
    if isinstance(seconds, Fraction):
        return round(seconds * US_PER_SECOND)
    exact = Decimal(repr(seconds)) if isinstance(seconds, float) else Decimal(seconds)
    return int((exact * US_PER_SECOND).to_integral_value(ROUND_HALF_EVEN))


def seconds_from_us(time_us: int) -> float:
    """Convert microseconds to float seconds, exact to the microsecond for any duration below 285 years."""
    return time_us / US_PER_SECOND


def format_timecode(time_us: int) -> str:
    """Format as `m:ss.cc`, or `h:mm:ss.cc` from one hour; hundredths are truncated, not rounded."""
    hundredths = time_us // 10_000
    minutes, remainder = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{remainder // 100:02d}.{remainder % 100:02d}"
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"
