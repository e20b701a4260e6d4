"""Operations and their outcomes."""

from __future__ import annotations

from typing import Final, Literal

Operation = Literal["processing", "field_extraction", "transcription", "image_embedding", "synthesis", "text_embedding"]
Outcome = Literal["succeeded", "failed", "cancelled"]
# "unavailable": the operation was requested, but its model cannot be loaded.
OperationStatus = Literal["succeeded", "failed", "cancelled", "unavailable"]

# Segments and items have more statuses while their run is in progress.
SegmentStatus = Literal["succeeded", "failed", "cancelled", "pending", "processing"]
ItemStatus = Literal["completed", "partial", "failed", "cancelled", "processing"]

OPERATIONS: Final[tuple[Operation, ...]] = (
    "processing",
    "field_extraction",
    "transcription",
    "image_embedding",
    "synthesis",
    "text_embedding",
)
