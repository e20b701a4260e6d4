"""Prompt runs: execution, status, results, failures, retries and call records."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, StrictInt, model_validator

from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.run_labels import RunLabels
from promptreel.schemas.strategies import (
    DEFAULT_AUDIO_STRATEGY,
    DEFAULT_VIDEO_STRATEGY,
    IMAGE_STRATEGY,
    MAX_WINDOW_S,
    MIN_WINDOW_S,
    AudioStrategy,
    VideoStrategy,
)
from promptreel.schemas.wire.common import Marker, NullIsAbsent, WireModel
from promptreel.schemas.wire.evidence import EvidenceOptions, FieldEvidence
from promptreel.schemas.wire.run_targets import Target
from promptreel.schemas.wire.segment_options import SegmentOptions, integral

# Window length in seconds.
Window = Annotated[StrictInt, BeforeValidator(integral), Field(ge=MIN_WINDOW_S, le=MAX_WINDOW_S)]


class ExecuteRun(NullIsAbsent):
    """The run to start or estimate."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "prompt_id": "prompt_9f86d081884c7d659a2feaa0",
                    "target": {"type": "index", "index_id": "idx_9f86d081884c7d659a2feaa0"},
                    "video_segmentation_type": "fixed",
                    "video_segment_duration": 10,
                }
            ]
        }
    )

    prompt_id: str = Field(min_length=1)
    target: Target
    video_segmentation_type: VideoStrategy = DEFAULT_VIDEO_STRATEGY
    audio_segmentation_type: AudioStrategy = DEFAULT_AUDIO_STRATEGY
    video_segment_duration: Window | None = None
    audio_segment_duration: Window | None = None
    processing_model: str | None = None
    enable_transcription: bool = True
    enable_image_embedding: bool = True
    segment_options: SegmentOptions = SegmentOptions()
    evidence: EvidenceOptions | None = Field(
        default=None, description="Request evidence for fields, and check it; `{}` requests it for all."
    )
    name: str | None = Field(default=None, description="Name of the run; runs can be listed by it.")
    tags: dict[str, str] = Field(default={}, description="Tags of the run; runs can be listed by them.")

    @model_validator(mode="after")
    def _check_definition(self) -> ExecuteRun:
        if self.segment_options.definition is not None and self.video_segmentation_type != "smart":
            raise ValueError(
                "segment_options.definition is set, but video_segmentation_type is "
                f"{self.video_segmentation_type!r}; use 'smart'"
            )
        return self

    @model_validator(mode="after")
    def _check_labels(self) -> ExecuteRun:
        try:
            RunLabels(self.name, self.tags)
        except InvalidInput as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _check_durations(self) -> ExecuteRun:
        for kind in ("video", "audio"):
            is_fixed = getattr(self, f"{kind}_segmentation_type") == "fixed"
            if is_fixed and getattr(self, f"{kind}_segment_duration") is None:
                raise ValueError(f"{kind}_segment_duration is required when {kind}_segmentation_type is 'fixed'")
        return self

    @property
    def is_fixed(self) -> bool:
        """Whether video or audio is cut into fixed windows."""
        return "fixed" in (self.video_segmentation_type, self.audio_segmentation_type)

    def warnings(self) -> list[str]:
        """Return a warning for each part of the request that has no effect."""
        found = self.unknown_fields()
        for kind in ("video", "audio"):
            strategy = getattr(self, f"{kind}_segmentation_type")
            duration = getattr(self, f"{kind}_segment_duration")
            if duration is not None and strategy != "fixed":
                found.append(
                    f"ignored: {kind}_segment_duration is {duration}, but {kind}_segmentation_type is {strategy!r}; "
                    "it applies only to 'fixed'"
                )
        if self.segment_options.hop is not None and not self.is_fixed:
            found.append(
                f"ignored: segment_options.hop is {self.segment_options.hop}, but neither video nor audio segmentation is "
                "'fixed'"
            )
        if self.processing_model == "":
            found.append("ignored: processing_model is empty; the run uses the default model of the service")
        return found


class StopState(WireModel):
    """The progress of a cancellation."""

    requested_at: str | None = None
    requested_by: str | None = None
    mode: str | None = None
    observed_at: str | None = None
    completed_at: str | None = None


class CostSpread(WireModel):
    """An estimated cost in units of the currency, which is null for the built-in model."""

    low: float
    expected: float
    high: float
    currency: str | None = None


class CostSoFar(WireModel):
    """The cost of calls in units of the currency.

    Attributes:
        amount: null without a call, or if the price of the model is unknown.
        unpriced_calls: calls that are not in the amount, because the price of their model is unknown.
    """

    amount: float | None = None
    currency: str | None = None
    unpriced_calls: int = 0


class PromptRunBody(WireModel):
    """One prompt run.

    Attributes:
        status: pending, processing, completed, completed_with_failures, failed or cancelled; the last four are final.
        run_context: the target.
        segment_options: hop, start_time, end_time, definition and dedupe of the segments, as in the request.
        evidence: the fields for which evidence is requested (empty for all); null without evidence.
        status_text: the status with the number of finished segments, the error and the warnings.
        field_extraction_succeeded, transcription_succeeded, image_embedding_succeeded: null if the operation is
            disabled or does not apply, was cancelled, or its outcome is not known yet; false also if its model is missing.
        cancelled_segments: segments that will never run because the run was stopped.
        warnings: problems of the run, each with its fix.
        service_state: why calls of the model wait or were halted, e.g. "service overloaded since 14:02 UTC, next probe at
            14:03:10 UTC: HTTP 503 ..."; null while calls succeed and after the run. `warnings` has it too.
        estimated_input_tokens: maximum input tokens if no earlier results are reused; 0 for the built-in model.
        estimated_cost: if no earlier results are reused; null if the price of the model is unknown.
        actual_cost: of all calls so far.
        actual_tokens: tokens used by all calls: input, output, cached, thought and total.
        name, tags: labels that the caller gave the run.
        prompt_version: number of the prompt's content among those that prompts of this name had; null in runs of earlier
            versions.
    """

    run_id: str
    prompt_id: str
    prompt_name: str
    prompt_type: str = "custom"
    executed_at: str
    executed_by: str
    status: str
    status_text: str = ""
    run_context: dict[str, Any]
    total_videos: int = 0
    total_audios: int = 0
    total_images: int = 0
    completed_videos: int = 0
    completed_audios: int = 0
    completed_images: int = 0
    failed_videos: int = 0
    failed_audios: int = 0
    failed_images: int = 0
    partial_videos: int = 0
    partial_audios: int = 0
    partial_images: int = 0
    cancelled_videos: int = 0
    cancelled_audios: int = 0
    cancelled_images: int = 0
    total_segments: int = 0
    completed_segments: int = 0
    cancelled_segments: int = 0
    field_extraction_failures: int = 0
    transcription_failures: int = 0
    image_embedding_failures: int = 0
    field_extraction_succeeded: bool | None = None
    transcription_succeeded: bool | None = None
    image_embedding_succeeded: bool | None = None
    error_message: str | None = None
    video_segmentation_type: str = DEFAULT_VIDEO_STRATEGY
    audio_segmentation_type: str = DEFAULT_AUDIO_STRATEGY
    image_segmentation_type: str = IMAGE_STRATEGY
    video_segment_duration: int | None = None
    audio_segment_duration: int | None = None
    segment_options: dict[str, Any] = {}
    evidence: dict[str, Any] | None = None
    created_new_segments: bool = False
    processing_model: str | None = None
    total_video_seconds: float = 0.0
    enable_transcription: bool = True
    enable_image_embedding: bool = True
    video_level_enabled: bool = False
    video_level_total_items: int = 0
    video_level_completed_items: int = 0
    video_level_failed_items: int = 0
    video_level_partial_items: int = 0
    video_level_cancelled_items: int = 0
    billing_estimated_mt: float = 0.0
    billing_actual_mt: float = 0.0
    billing_status: str | None = None
    billing_error: str | None = None
    stop_state: StopState = StopState()
    marker: Marker = Marker()
    started_at: str | None = None
    completed_at: str | None = None
    warnings: list[str] = []
    service_state: str | None = None
    reused_results: int = 0
    model_calls: int = 0
    estimated_input_tokens: int | None = None
    estimated_cost: CostSpread | None = None
    actual_cost: CostSoFar = CostSoFar()
    actual_tokens: dict[str, int] = {}
    name: str | None = None
    tags: dict[str, str] = {}
    prompt_version: int | None = None


class RunEstimateBody(WireModel):
    """The estimated size of a run. `breakdown` has the counts; the service is self-hosted and bills nothing.
    `warnings` are those that the run would have at its start."""

    estimated_mt: float = 0.0
    breakdown: dict[str, Any]
    sufficient_balance: bool = True
    current_balance_mt: float = 0.0
    warnings: list[str] = []


class MediaUris(WireModel):
    """Addresses of a result's media; null if not available."""

    segment_uri: str | None = None
    gcs_uri: str | None = None
    thumbnail_uri: str | None = None
    thumbnail_gcs_uri: str | None = None
    gif_uri: str | None = None
    gif_gcs_uri: str | None = None
    thumbnail_available: bool = False
    gif_available: bool = False


class SegmentResult(MediaUris):
    """The result of one segment in one run.

    Attributes:
        field_extraction_error: starts with `cancelled: ` if the run was stopped before the operation was done; so do
            the errors of the other operations.
        evidence: by field, its checked evidence; null if the run requests none. A field without a value has none.
    """

    result_type: str = "segment"
    result_id: str
    segment_id: str
    video_id: str
    run_id: str
    prompt_id: str
    prompt_run_id: str
    video_name: str | None = None
    source_index_id: str | None = None
    executed_at: str
    start_time: float
    end_time: float
    metadata: dict[str, Any]
    metadata_text: str
    processing_warning: str | None = None
    schema_used: str
    field_extraction_succeeded: bool = False
    transcription_succeeded: bool | None = None
    image_embedding_succeeded: bool | None = None
    field_extraction_error: str | None = None
    transcription_error: str | None = None
    image_embedding_error: str | None = None
    transcript: str | None = None
    evidence: dict[str, FieldEvidence] | None = None
    marker: Marker = Marker()
    extracted_metadata_markers: dict[str, Marker] = {}
    metadata_markers: dict[str, Marker] = {}


class VideoResult(MediaUris):
    """The synthesis of one media item in one run.

    Attributes:
        status: completed, completed_with_failures, failed or cancelled.
        llm_attempted: false if no model was called, e.g. because no segment has a result.
    """

    result_type: str = "video"
    result_id: str
    video_id: str
    run_id: str
    prompt_id: str
    prompt_run_id: str
    video_name: str | None = None
    source_index_id: str | None = None
    executed_at: str
    status: str
    metadata: dict[str, Any]
    metadata_text: str
    raw_llm_response: str | None = None
    processing_warning: str | None = None
    schema_used: str
    successful_segment_count: int = 0
    failed_segment_count: int = 0
    omitted_segment_ids: list[str] = []
    template_fields: list[str] = []
    source_fingerprint: str | None = None
    rendered_prompt_char_count: int = 0
    llm_attempted: bool = False
    attempt_id: str | None = None
    error_message: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    preview_segment_id: str | None = None
    preview_start_time: float | None = None
    preview_end_time: float | None = None
    preview_segment_uri: str | None = None
    preview_thumbnail_uri: str | None = None
    preview_gif_uri: str | None = None
    embedding_status: str | None = None
    embedding_error: str | None = None
    marker: Marker = Marker()
    extracted_metadata_markers: dict[str, Marker] = {}
    metadata_markers: dict[str, Marker] = {}


class SegmentRetry(WireModel):
    """A retry of the failed operations of one segment, or of an item itself.

    Attributes:
        status: pending, processing, completed or failed; the last two are final.
    """

    run_id: str
    retry_id: str
    status: str
    message: str = ""
    idempotency_key: str | None = None
    video_id: str
    segment_id: str
    created_at: str
    started_at: str | None = None
    completed_at: str | None = None
    error: str | None = None
    field_extraction_succeeded: bool | None = None
    transcription_succeeded: bool | None = None
    image_embedding_succeeded: bool | None = None
    billing_estimated_mt: float = 0.0
    billing_actual_mt: float = 0.0
    billing_status: str | None = None
    billing_error: str | None = None
