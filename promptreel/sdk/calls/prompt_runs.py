"""Prompt runs: start, estimate, monitor, read, cancel, retry failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from pydantic import BaseModel

from promptreel.schemas.strategies import AudioStrategy, VideoStrategy
from promptreel.schemas.wire.diff import FieldChangeBody
from promptreel.schemas.wire.evidence import EvidenceOptions
from promptreel.schemas.wire.failed_segments import FailedSegments
from promptreel.schemas.wire.llm_calls import LlmCallBody
from promptreel.schemas.wire.prompt_runs import (
    PromptRunBody,
    RunEstimateBody,
    SegmentResult,
    SegmentRetry,
    VideoResult,
)
from promptreel.schemas.wire.retries import RetryableOperation
from promptreel.schemas.wire.run_targets import IndexTarget, PlaygroundTarget, VideosTarget
from promptreel.schemas.wire.segment_options import SegmentOptions
from promptreel.sdk.request import SLOW_REQUEST_TIMEOUT_S, Call, Listing, Request, key_for, omit_none, path_of

Target = IndexTarget | VideosTarget | PlaygroundTarget


class ExecuteOptions(TypedDict, total=False):
    """The settings of `ExecuteRun`; the service chooses those that are missing or None."""

    video_segmentation_type: VideoStrategy | None
    audio_segmentation_type: AudioStrategy | None
    video_segment_duration: int | None
    audio_segment_duration: int | None
    processing_model: str | None
    enable_transcription: bool | None
    enable_image_embedding: bool | None
    segment_options: SegmentOptions | Mapping[str, Any] | None
    evidence: EvidenceOptions | Mapping[str, Any] | None
    name: str | None
    tags: Mapping[str, str] | None


def execute(
    prompt_id: str,
    target: Target | Mapping[str, Any],
    *,
    idempotency_key: str | None = None,
    **settings: Unpack[ExecuteOptions],
) -> Call[PromptRunBody]:
    """Start a run."""
    body = _run_body(prompt_id, target, settings)
    key = key_for("prompt-run-execute", idempotency_key)
    return Call(Request("POST", "/prompt-runs/execute", json=body, idempotency=key), PromptRunBody)


def estimate(
    prompt_id: str, target: Target | Mapping[str, Any], **settings: Unpack[ExecuteOptions]
) -> Call[RunEstimateBody]:
    """Estimate a run without starting it. `breakdown` holds the counts; arguments as for `execute`."""
    body = _run_body(prompt_id, target, settings)
    return Call(
        Request("POST", "/prompt-runs/estimate", json=body, min_timeout_s=SLOW_REQUEST_TIMEOUT_S), RunEstimateBody
    )


def retrieve(run_id: str) -> Call[PromptRunBody]:
    """Get a run and its status."""
    return Call(Request("GET", path_of("prompt-runs", run_id)), PromptRunBody)


def list_runs(
    *, limit: int | None = None, name: str | None = None, tags: Mapping[str, str] | None = None
) -> Call[list[PromptRunBody]]:
    """List the newest runs with this name and all of these tags, up to `limit` (at most 200)."""
    tag = None if tags is None else [f"{key}={value}" for key, value in tags.items()]
    return Call(Request("GET", "/prompt-runs", omit_none(limit=limit, name=name, tag=tag)), list[PromptRunBody])


def list_results(run_id: str, video_id: str, *, limit: int | None = None) -> Listing[SegmentResult]:
    """Page through a media item's segments in a run, including failed ones, in time order, `limit` per page."""
    params = omit_none(video_id=video_id, limit=limit)
    return Listing(Request("GET", path_of("prompt-runs", run_id, "results"), params), SegmentResult)


def diff(
    base_run_id: str,
    other_run_id: str,
    *,
    include_same: bool | None = None,
    field: str | None = None,
    change: str | None = None,
    limit: int | None = None,
) -> Listing[FieldChangeBody]:
    """Page through the fields that differ between two runs over the same media."""
    params = omit_none(other_run_id=other_run_id, include_same=include_same, field=field, change=change, limit=limit)
    request = Request("GET", path_of("prompt-runs", base_run_id, "diff"), params, min_timeout_s=SLOW_REQUEST_TIMEOUT_S)
    return Listing(request, FieldChangeBody)


def get_video_result(run_id: str, video_id: str) -> Call[VideoResult]:
    """Get the synthesis of a media item."""
    return Call(Request("GET", path_of("prompt-runs", run_id, "videos", video_id, "video-result")), VideoResult)


def get_failed_segments(run_id: str) -> Call[FailedSegments]:
    """List everything that failed in a run and whether each failure is retryable."""
    return Call(Request("GET", path_of("prompt-runs", run_id, "failed-segments")), FailedSegments)


def get_llm_calls(run_id: str) -> Call[list[LlmCallBody]]:
    """List the model calls of a run."""
    return Call(Request("GET", path_of("prompt-runs", run_id, "llm-calls")), list[LlmCallBody])


def cancel(run_id: str, *, idempotency_key: str | None = None) -> Call[PromptRunBody]:
    """Ask a run to stop. No new calls start, finished results are saved; wait with `wait_for_completion`."""
    key = key_for("prompt-run-cancel", idempotency_key)
    return Call(Request("POST", path_of("prompt-runs", run_id, "cancel"), idempotency=key), PromptRunBody)


def retry_segment(
    run_id: str, video_id: str, segment_id: str, *, idempotency_key: str | None = None
) -> Call[SegmentRetry]:
    """Retry the failed operations of one segment of a finished run."""
    path = path_of("prompt-runs", run_id, "videos", video_id, "segments", segment_id, "retry")
    return Call(Request("POST", path, idempotency=key_for("segment-retry", idempotency_key)), SegmentRetry)


def get_segment_retry_status(run_id: str, video_id: str, segment_id: str, retry_id: str) -> Call[SegmentRetry]:
    """Get the status of a single-segment retry."""
    path = path_of("prompt-runs", run_id, "videos", video_id, "segments", segment_id, "retries", retry_id)
    return Call(Request("GET", path), SegmentRetry)


def retry_failures(
    run_id: str,
    *,
    operations: Sequence[RetryableOperation] | None = None,
    codes: Sequence[str] | None = None,
    video_ids: Sequence[str] | None = None,
    idempotency_key: str | None = None,
) -> Call[SegmentRetry]:
    """Retry all retryable failures of a finished run, or those of certain operations, failure codes or items."""
    body = omit_none(
        operations=None if operations is None else list(operations),
        codes=None if codes is None else list(codes),
        video_ids=None if video_ids is None else list(video_ids),
    )
    key = key_for("retry-failures", idempotency_key)
    path = path_of("prompt-runs", run_id, "retry-failures")
    return Call(Request("POST", path, json=body, idempotency=key), SegmentRetry)


def get_retry_status(run_id: str, retry_id: str) -> Call[SegmentRetry]:
    """Get the status of a retry, of one segment or many."""
    return Call(Request("GET", path_of("prompt-runs", run_id, "retries", retry_id)), SegmentRetry)


def _run_body(prompt_id: str, target: Target | Mapping[str, Any], settings: ExecuteOptions) -> dict[str, Any]:
    """Build an `ExecuteRun` without the settings that are None."""
    body = {"prompt_id": prompt_id, "target": _plain(target), **omit_none(**settings)}
    groups = {"segment_options": settings.get("segment_options"), "evidence": settings.get("evidence")}
    return {**body, **{name: _plain(options) for name, options in groups.items() if options is not None}}


def _plain(value: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else value.model_dump(mode="json", exclude_none=True)
