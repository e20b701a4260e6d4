"""Limits of a decoder that reads an entire item."""

from __future__ import annotations

from typing import Final

from promptreel.media.bounded import Limits
from promptreel.schemas.media import MediaInfo
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.settings import MediaLimits

MIN_DEADLINE_S: Final = 60.0


def decoder_limits(info: MediaInfo, limits: MediaLimits) -> Limits:
    """Return the limits for decoding an item; an unknown duration is taken for half of the longest allowed."""
    length_s = limits.max_duration_s / 2 if info.duration_us is None else seconds_from_us(info.duration_us)
    return Limits(max(MIN_DEADLINE_S, limits.decode_deadline_factor * length_s), limits.decode_memory_bytes)
