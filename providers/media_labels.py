"""The lines that tell a model what the pictures and the sound of a request are."""

from __future__ import annotations

from typing import Final

from promptreel.providers.base import SegmentInput
from promptreel.schemas.media import SampledFrame
from promptreel.schemas.mediatime import format_timecode

SOUND_LABEL: Final = "Sound of the segment:"


def chosen_frames_label(media: SegmentInput) -> str:
    """Return the line before a clip that shows the chosen frames of a video."""
    times = ", ".join(format_timecode(max(0, frame.time_us - media.span.start_us)) for frame in media.frames)
    return f"Frames of the segment, one per second of this clip; answer with their times in the segment: {times}"


def frame_label(media: SegmentInput, frame: SampledFrame) -> str:
    """Return the line before a frame of a video."""
    return f"Frame at {format_timecode(max(0, frame.time_us - media.span.start_us))} of the segment:"
