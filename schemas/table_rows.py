"""The rows of a run's tables. Each class defines the columns, types and nullability of its table.

Media times are integer microseconds in `_us` columns; `_time` columns repeat them in float seconds for analysts.
Timestamps are ISO 8601 text in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from promptreel.schemas.evidence import FieldEvidenceRow
from promptreel.schemas.media import BoundaryReason, MediaType
from promptreel.schemas.outcomes import ItemStatus, Operation, OperationStatus, Outcome, SegmentStatus
from promptreel.schemas.speech_rows import TranscriptRow, UtteranceRow


@dataclass(frozen=True, slots=True)
class MediaRow:
    """One media item of the run.

    Attributes:
        other_uris: other URIs of the target with identical content, which is processed once.
        duration_us: decoded duration; None for an image and for an item that could not be read.
        sound_detector: detector of the sound spans: "silero", "level" or "none".
        heard_us: total duration of speech (for "level", of sound).
        truncated: the file or one of its streams ends before its declared end.
        warning_codes: codes of the warnings about the file itself; `promptreel.schemas.media_warnings` explains them.
        decoded_duration_us: end of the last frame or sample that was decoded; None for an image.
        decode_errors: error messages of the decoder and concealed frames.
        concealed_frames: frames that the decoder marks as damaged.
        damaged_share: share of the item, 0..1, that is missing or concealed.
        start_offset_us: the container's timestamp at which item time starts.
        synthesis: outcome of the item's synthesis; "failed" also if no segment has a result; None if it gets none.
    """

    run_id: str
    video_id: str
    name: str
    uri: str
    other_uris: tuple[str, ...]
    status: ItemStatus
    media_type: MediaType | None
    container: str | None
    size_bytes: int | None
    content_hash: str | None
    duration_us: int | None
    duration_seconds: float | None
    width: int | None
    height: int | None
    rotation_degrees: int | None
    frame_rate: float | None
    video_codec: str | None
    audio_codec: str | None
    audio_track_count: int | None
    sound_detector: str | None
    heard_us: int | None
    truncated: bool | None
    segment_count: int
    succeeded_segments: int
    failed_segments: int
    cancelled_segments: int
    warnings: tuple[str, ...]
    # Columns that came later have defaults, for parts written before.
    warning_codes: tuple[str, ...] = ()
    decoded_duration_us: int | None = None
    decoded_duration_seconds: float | None = None
    decode_errors: int | None = None
    concealed_frames: int | None = None
    damaged_share: float | None = None
    start_offset_us: int | None = None
    synthesis: Outcome | None = None


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """One segment of an item, with the reasons for its boundaries and the outcomes of its operations.

    `status` is "succeeded" if all enabled operations succeeded, "failed" if one failed, otherwise "cancelled". The
    outcome of an operation that is disabled or does not apply is null; "unavailable" means that its model is missing.
    While the run is in progress, `status` is "pending" until the fields are extracted, then "processing" until all
    operations have ended, and the outcome of an unfinished operation is null.

    Attributes:
        warnings: the requested operations that did not run, each with the reason.
        overlap_us: time from the segment's start that earlier segments cover too. `end_us - start_us - overlap_us` counts
            every moment once.
        segment_label: what the segment shows, if a model marked it by the user's definition.
        answered_by_segment_id: the segment that this one is a near-duplicate of, and whose call answered for it; null if
            the model was called for the segment itself.
    """

    run_id: str
    video_id: str
    segment_id: str
    media_type: MediaType
    segment_number: int
    start_us: int
    end_us: int
    start_time: float
    end_time: float
    start_reason: BoundaryReason
    start_score: float
    end_reason: BoundaryReason
    end_score: float
    status: SegmentStatus
    field_extraction: Outcome | None
    transcription: OperationStatus | None
    image_embedding: OperationStatus | None
    # Columns that came later have defaults, for parts written before.
    warnings: tuple[str, ...] = ()
    overlap_us: int = 0
    segment_label: str | None = None
    answered_by_segment_id: str | None = None


@dataclass(frozen=True, slots=True)
class ResultRow:
    """The extracted fields of one segment.

    The table has an additional last column `fields`, a struct typed by the prompt's schema.

    Attributes:
        metadata: the answer as JSON text.
        metadata_text: one `path: value` line per leaf.
        prompt_id: derived from the definition, so all runs of the same definition share it.
        warning: a problem with the answer, e.g. a time outside the segment.
        reused: taken from the operation cache without a call in this run.
        llm_call_ids: the calls that produced the answer, in this or an earlier run; empty for the built-in model.
        model_version: the model version that answered, as the service reports it.
        answer_repair: the repairs that the JSON of the answer needed, joined by commas; null for strict JSON.
        merged_from: the earlier answers that top-level fields were taken from, as a JSON array of objects with `fields`,
            `run_id`, `operation_key` and `llm_call_ids`; null if all fields are of one answer.
        answered_by_segment_id: see `SegmentRow`.
    """

    run_id: str
    video_id: str
    segment_id: str
    prompt_id: str
    model: str
    media_type: MediaType
    start_us: int
    end_us: int
    start_time: float
    end_time: float
    metadata: str
    metadata_text: str
    warning: str | None
    reused: bool
    operation_key: str
    llm_call_ids: tuple[str, ...]
    executed_at: str
    # Columns that came later have defaults, for parts written before.
    model_version: str | None = None
    answer_repair: str | None = None
    merged_from: str | None = None
    answered_by_segment_id: str | None = None


@dataclass(frozen=True, slots=True)
class FrameRow:
    """One sampled frame on disk.

    Attributes:
        file: path of the JPEG, relative to the data folder.
    """

    run_id: str
    video_id: str
    segment_id: str
    time_us: int
    time: float
    file: str


@dataclass(frozen=True, slots=True)
class ImageEmbeddingRow:
    """The embedding of one frame of a segment.

    The table has an additional last column `vector`: float32[dimension], of unit length.

    Attributes:
        model: vectors of different models are not comparable.
        file: path of the JPEG, relative to the data folder.
        same_as_us: time of a near-identical frame whose vector this frame shares; None if the vector is its own.
    """

    run_id: str
    video_id: str
    segment_id: str
    start_us: int
    time_us: int
    time: float
    file: str
    model: str
    dimension: int
    same_as_us: int | None


@dataclass(frozen=True, slots=True)
class TextEmbeddingRow:
    """The embedding of one text of a result: a leaf value, the complete result, or a transcript.

    The table has an additional last column `vector`: float32[dimension], of unit length.

    Attributes:
        segment_id: None for a text of the item's synthesis.
        field: canonical path of the leaf, or `metadata_text` or `transcription`.
        instance: the path with list indexes, e.g. `people[1].name`.
        model: vectors of different models are not comparable.
    """

    run_id: str
    video_id: str
    segment_id: str | None
    start_us: int | None
    field: str
    instance: str
    text: str
    model: str
    dimension: int


@dataclass(frozen=True, slots=True)
class VideoResultRow:
    """The synthesis of one media item, and its coverage of the item's segments.

    The table has an additional last column `fields`, a struct typed by the prompt's video-level schema.

    Attributes:
        covered_share: covered_segments / segment_count, 0..1.
        omitted_segment_ids: segments without a result, or beyond the text limit.
        source_fingerprint: hash of the input segment results.
        rendered_prompt_chars: length of the prompt text in characters.
        model_version, answer_repair: see `ResultRow`.
    """

    run_id: str
    video_id: str
    prompt_id: str
    model: str
    media_type: MediaType
    metadata: str
    metadata_text: str
    warning: str | None
    segment_count: int
    covered_segments: int
    covered_share: float
    omitted_segment_ids: tuple[str, ...]
    template_fields: tuple[str, ...]
    source_fingerprint: str
    rendered_prompt_chars: int
    reused: bool
    operation_key: str
    llm_call_ids: tuple[str, ...]
    executed_at: str
    # Columns that came later have defaults, for parts written before.
    model_version: str | None = None
    answer_repair: str | None = None


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One failed operation.

    Attributes:
        segment_id: None if the item's processing or synthesis failed.
        code: a key of `promptreel.schemas.failure_codes.FAILURE_CODES`.
        attempts: number of calls in this run.
        answer: the model's last raw answer, if any.
    """

    run_id: str
    video_id: str
    segment_id: str | None
    name: str
    operation: Operation
    code: str
    message: str
    retryable: bool
    attempts: int
    start_us: int | None
    end_us: int | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class LlmCallRow:
    """One attempt of one model call.

    Attributes:
        segment_id: None for the marks of a stretch, a synthesis or an embedding.
        purpose: "segmentation" (marks by the user's definition), "metadata_extraction", "video_level_synthesis" or
            "text_embedding".
        status: "success" (an answer that fits the schema), "error" (no answer, or one that cannot be used), or
            "interrupted" (the process died before it stored an answer).
        code: failure code of an error.
        request: the request as JSON text: its text, hashes of instruction and schema, and a description of the media.
        video_seconds: duration of the media in the request.
        model_version: the model version reported by the service; None without an answer, or if it was not reported or
            not recorded.
        answer_repair: see `ResultRow`.
        request_form: how the request was built for a server that supports only some of its parts, e.g. "json_object,
            max_tokens, no temperature" (docs/models.md); None without an answer, and for services that support all.
        max_output_tokens: token limit of the answer; None if the request has none, or in logs of earlier versions.
        tier: service tier of the call: "standard", "flex" or "batch"; None in logs of earlier versions.
        cost: in units of `currency`, by the price on the day of the call; None if the price of the model is unknown, or
            not recorded.
        instruction: the instruction that was sent; None for an embedding, or if another version sent a different one.
        json_schema: the schema that the answer must fit, as JSON text; None for an embedding.
    """

    llm_call_id: str
    run_id: str
    video_id: str
    segment_id: str | None
    operation_key: str
    model: str
    purpose: str
    status: str
    attempt: int
    code: str | None
    message: str | None
    finish_reason: str | None
    input_tokens: int
    output_tokens: int
    thought_tokens: int
    cached_tokens: int
    total_tokens: int
    text_tokens: int
    image_tokens: int
    video_tokens: int
    audio_tokens: int
    video_seconds: float
    invoked_at: str
    completed_at: str | None
    duration_ms: int
    request: str
    response_text: str | None
    # Columns that came later have defaults, for logs and parts written before.
    model_version: str | None = None
    answer_repair: str | None = None
    request_form: str | None = None
    max_output_tokens: int | None = None
    tier: str | None = None
    cost: float | None = None
    currency: str | None = None
    # Only in the table: all calls of a run with one purpose share them.
    instruction: str | None = None
    json_schema: str | None = None


TABLES: Final[dict[str, type]] = {
    "media": MediaRow,
    "segments": SegmentRow,
    "results": ResultRow,
    "field_evidence": FieldEvidenceRow,
    "transcripts": TranscriptRow,
    "utterances": UtteranceRow,
    "frames": FrameRow,
    "image_embeddings": ImageEmbeddingRow,
    "text_embeddings": TextEmbeddingRow,
    "video_results": VideoResultRow,
    "failures": FailureRow,
    "llm_calls": LlmCallRow,
}

# Order of the rows in each part: the rows of one item are contiguous.
SORT_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "media": ("video_id",),
    "segments": ("video_id", "start_us", "segment_id"),
    "results": ("video_id", "start_us", "segment_id"),
    "field_evidence": ("video_id", "start_us", "segment_id", "field"),
    "transcripts": ("video_id", "start_us", "segment_id"),
    "utterances": ("video_id", "start_us", "segment_id"),
    "frames": ("video_id", "time_us"),
    "image_embeddings": ("video_id", "start_us", "segment_id", "time_us"),
    "text_embeddings": ("video_id", "start_us", "segment_id", "instance"),
    "video_results": ("video_id",),
    "failures": ("video_id", "start_us", "operation"),
    "llm_calls": ("video_id", "invoked_at", "llm_call_id"),
}
