"""Media items (called videos, whatever their type), their segments and their registration."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, model_validator

from promptreel.schemas.wire.common import ClosedModel, Marker, RequestModel, WireModel


class SegmentProgress(WireModel):
    """The status of one segment in a run."""

    segment_id: str
    video_id: str
    status: str
    start_time: float
    end_time: float
    started_at: str | None = None
    completed_at: str | None = None
    updated_at: str | None = None
    error_message: str | None = None
    failure_stage: str | None = None
    attempt_id: str | None = None


class VideoLevelProgress(WireModel):
    """The status of a video's synthesis in a run."""

    status: str
    result_available: bool
    successful_segment_count: int
    failed_segment_count: int
    started_at: str | None = None
    completed_at: str | None = None
    updated_at: str | None = None
    error_message: str | None = None
    attempt_id: str | None = None


class RunProcessingStatus(WireModel):
    """The status of one video in one run."""

    run_id: str
    prompt_id: str | None
    status: str
    total_segments: int
    pending_segments: int
    cancelled_segments: int = 0
    processing_segments: int
    successful_segments: int
    failed_segments: int
    created_at: str
    updated_at: str
    attempt_id: str | None = None
    video_level: VideoLevelProgress | None = None
    segments: list[SegmentProgress] = []


class VideoBody(WireModel):
    """A media item.

    Attributes:
        status: not_processed, processing, processed or failed.
        thumbnail_uri: a signed URL of a JPEG that loads without an API key for at least an hour: a frame of the newest
            run that has sampled the item. Null for audio, and before the first run.
    """

    video_id: str
    title: str
    video_uri: str
    status: str
    processing_status: list[RunProcessingStatus] | None = None
    created_at: str
    updated_at: str
    duration_seconds: float | None = None
    metadata_keys: list[str] | None = None
    media_type: str
    marker: Marker = Marker()
    index_id: str | None = None
    size_bytes: int | None = None
    thumbnail_uri: str | None = None
    thumbnail_available: bool = False


class VideoWithDetails(VideoBody):
    """A media item with previews."""

    gif_data: str | None = None
    first_thumbnail: str | None = None


class VideoStatus(WireModel):
    """The status of a media item in its runs."""

    video_id: str
    status: str
    processing_status: list[RunProcessingStatus] | None


class SegmentBody(WireModel):
    """A segment with its result in one run, or its newest result."""

    segment_id: str
    video_id: str
    start_time: float
    end_time: float
    gcs_uri: str | None = None
    thumbnail_gcs_uri: str | None = None
    gif_gcs_uri: str | None = None
    thumbnail_uri: str | None = None
    gif_uri: str | None = None
    processed: bool
    processing_failed: bool
    segment_status: str = Field(description="pending, processing, successful, failed or cancelled")
    failure_stage: str | None = None
    failure_message: str | None = None
    attempt_id: str | None = None
    status_source: str | None = None
    metadata: dict[str, Any] | None = None
    metadata_text: str = ""
    created_at: str | None = None
    processed_at: str | None = None
    error_message: str | None = None
    processing_warning: str | None = None
    thumbnail_data: str | None = None
    thumbnail_available: bool = False
    gif_data: str | None = None
    gif_available: bool = False
    from_run_id: str | None = None
    marker: Marker = Marker()
    metadata_markers: dict[str, Marker] = {}
    field_extraction_succeeded: bool | None = None
    field_extraction_error: str | None = None
    transcription_succeeded: bool | None = None
    transcription_error: str | None = None
    image_embedding_succeeded: bool | None = None
    image_embedding_error: str | None = None


class RegisterVideo(RequestModel):
    """The media item to register, by its URI."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "dock", "video_uri": "https://media.example/dock.mp4"}]}
    )

    title: str = Field(min_length=1, max_length=255)
    video_uri: str = Field(min_length=1, max_length=4096)
    index_id: str | None = None


class ImportProgress(WireModel):
    """File counts of an import job; an upload has one file."""

    total_files: int = 1
    imported: int = 1
    failed: int = 0
    skipped: int = 0
    bytes_transferred: int = 0
    current_file: str | None = None
    parts_total: int = 1
    parts_completed: int = 1
    parts_failed: int = 0


class ImportOutput(WireModel):
    """One media item created by an import job."""

    file_id: str
    file_name: str
    source_ordinal: int
    part_index: int
    part_count: int
    source_start_seconds: float
    source_end_seconds: float
    video_id: str
    title: str
    status: str


class ImportOutputs(WireModel):
    """The media items created by an import job."""

    items: list[ImportOutput] = []
    next_cursor: str | None = None
    total: int = 1


class ImportExecution(WireModel):
    """The run started by an import job; this service never starts one."""

    status: str = "not_requested"


class RegisteredVideo(VideoBody):
    """A registered or uploaded video, with the finished import job that some clients expect."""

    message: str
    job_id: str
    phase: str = "completed"
    source_kind: str
    target_index_id: str | None
    source_prefix: str = ""
    file_pattern: str = "*"
    recursive: bool = True
    progress: ImportProgress
    outputs: ImportOutputs
    execution: ImportExecution = ImportExecution()
    video_ids: list[str]
    failed_files: list[Any] = []
    skipped_files: list[Any] = []
    thumbnail_data: str | None = None


class VideoBatch(RequestModel):
    """Up to 100 videos."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"video_ids": ["vid_9f86d081884c7d659a2feaa0"]}]})

    video_ids: list[str] = Field(min_length=1, max_length=100)


class SegmentTarget(ClosedModel):
    """A video, and the run whose results to return."""

    video_id: str
    run_id: str | None = None


class SegmentBatch(RequestModel):
    """Videos, or videos with runs; exactly one of `video_ids` and `targets` is required."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"video_ids": ["vid_9f86d081884c7d659a2feaa0"]}]})

    video_ids: list[str] | None = Field(default=None, min_length=1, max_length=50)
    targets: list[SegmentTarget] | None = Field(default=None, min_length=1, max_length=50)

    @model_validator(mode="after")
    def _check_one_is_set(self) -> SegmentBatch:
        if (self.video_ids is None) == (self.targets is None):
            raise ValueError("set either video_ids or targets, not both")
        return self


class VideoSegments(WireModel):
    """The segments of one video, and the run of their results."""

    video_id: str
    run_id: str | None
    segments: list[SegmentBody]
    run_status: str | None = None


class SignedUrlRequest(RequestModel):
    """A media URI returned by this service."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"gcs_uri": "media://vid_9f86d081884c7d659a2feaa0"}]})

    gcs_uri: str
    force_refresh: bool | None = False


class SignedUrl(WireModel):
    """A signed download URL and its expiry time."""

    signed_url: str
    expires_at: str
