"""The failed-segments manifest of a run."""

from __future__ import annotations

from promptreel.schemas.wire.common import WireModel


class OperationCounts(WireModel):
    """Number of failures per operation; a segment can count in several.

    Attributes:
        processing: failures of items themselves, including those of their synthesis and text embedding.
    """

    field_extraction: int = 0
    transcription: int = 0
    image_embedding: int = 0
    processing: int = 0
    synthesis: int = 0
    text_embedding: int = 0


class FailedSegment(WireModel):
    """A failed segment, or (for `processing`) the failures of an item itself.

    Attributes:
        segment_id: pass it to a retry; the item's id for a failure of the item itself.
        failure_stage: the operation that failed, e.g. `synthesis`.
    """

    segment_id: str
    failed_operations: list[str]
    field_extraction_error: str | None = None
    transcription_error: str | None = None
    image_embedding_error: str | None = None
    failure_stage: str | None = None
    failure_message: str | None = None
    failure_code: str | None = None
    retryable: bool | None = None
    start_time: float | None = None
    end_time: float | None = None
    projection_only: bool = False


class FailedVideo(WireModel):
    """The failures of one media item."""

    video_id: str
    failed_segments: int
    operation_counts: OperationCounts
    segments: list[FailedSegment]


class FailedSegments(WireModel):
    """All failures of a run."""

    run_id: str
    status: str
    videos_with_failures: int
    failed_segments: int
    operation_counts: OperationCounts
    videos: list[FailedVideo]
