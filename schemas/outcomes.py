"""Operations and their outcomes."""

from __future__ import annotations

from typing import Final, Literal

Operation = Literal["processing", "field_extraction", "transcription", "image_embedding", "synthesis", "text_embedding"]
Outcome = Literal["succeeded", "failed", "cancelled"]
# "unavailable": the operation was requested, but its model cannot be loaded.
OperationStatus = Literal["succeeded", "failed", "cancelled", "unavailable"]

OPERATIONS: Final[tuple[Operation, ...]] = (
    "processing",
    "field_extraction",
    "transcription",
    "image_embedding",
    "synthesis",
    "text_embedding",
)
