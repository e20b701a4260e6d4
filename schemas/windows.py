"""Windows of one length over a span of time, which may overlap or leave gaps."""

from __future__ import annotations

from typing import Final

from promptreel.schemas.media import TimeSpan
from promptreel.schemas.mediatime import us_from_seconds
from promptreel.schemas.strategies import MIN_RANGE_S

# A model may not sample a single frame of a shorter clip and answer anyway.
MIN_LENGTH_US: Final = us_from_seconds(MIN_RANGE_S)


def window_starts(span: TimeSpan, window_us: int, hop_us: int) -> range:
    """Return the starts of the windows of a span, in microseconds; see `fixed_windows`."""
    if span.duration_us <= 0:
        return range(0)
    # A further window starts `hop_us` after the last one, and must add at least the minimum to what that one covers.
    spare_us = span.duration_us - max(window_us, hop_us) - MIN_LENGTH_US
    further = max(0, spare_us // hop_us + 1)
    return range(span.start_us, span.start_us + further * hop_us + 1, hop_us)


def fixed_windows(span: TimeSpan, window_us: int, hop_us: int) -> list[TimeSpan]:
    """Return the windows of a span in order, one starting every hop.

    The last window ends with the span, unless the hop exceeds the window. A remainder shorter than half a second is not a
    window of its own: it extends the last one, or is left out if it does not touch it.

    Args:
        hop_us: distance between starts; shorter than the window, windows overlap, and longer, they leave gaps.

    >>> [(part.start_us, part.end_us) for part in fixed_windows(TimeSpan(0, 20_003_000), 10_000_000, 5_000_000)]
    [(0, 10000000), (5000000, 15000000), (10000000, 20003000)]
    """
    starts = window_starts(span, window_us, hop_us)
    windows = [TimeSpan(start_us, min(start_us + window_us, span.end_us)) for start_us in starts]
    if windows and hop_us <= window_us:
        windows[-1] = TimeSpan(windows[-1].start_us, span.end_us)
    return windows
