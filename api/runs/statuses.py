"""Statuses of runs and items, and the counters that name them."""

from __future__ import annotations

from typing import Final

FINAL: Final[frozenset[str]] = frozenset({"completed", "completed_with_failures", "failed", "cancelled"})

MEDIA_TYPES: Final = (("video", "videos"), ("audio", "audios"), ("image", "images"))

ITEM_OUTCOMES: Final = ("completed", "failed", "partial", "cancelled")

# The operations that the API reports for each segment; schemas/outcomes.py has all operations.
SEGMENT_OPERATIONS: Final = ("field_extraction", "transcription", "image_embedding")

# Key of a run's summary that is not shown: the warnings of its request, which later summaries repeat.
REQUEST_WARNINGS: Final = "request_warnings"
# Statuses of the segments table, as the API names them.
WIRE_SEGMENT_STATUS: Final = {
    "succeeded": "successful",
    "failed": "failed",
    "cancelled": "cancelled",
    "pending": "pending",
    "processing": "processing",
}
# Statuses of a segment while its run is in progress.
UNFINISHED: Final = frozenset({"pending", "processing"})
