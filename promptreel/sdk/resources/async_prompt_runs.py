"""Prompt runs, for asyncio."""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from promptreel.schemas.strategies import AudioStrategy, VideoStrategy
from promptreel.schemas.wire.diff import RunDiffPage
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
from promptreel.schemas.wire.segment_options import SegmentOptions
from promptreel.sdk.calls import prompt_runs as calls
from promptreel.sdk.calls.prompt_runs import Target
from promptreel.sdk.pages import AsyncDiffPage, AsyncPage
from promptreel.sdk.request import Call
from promptreel.sdk.resources.base import AsyncResource
from promptreel.sdk.waiting import (
    RUN_TIMEOUT_S,
    PollSettings,
    checked_retry,
    checked_run,
    pollable_retry,
    pollable_run,
    wait_for_async,
)


class AsyncPromptRuns(AsyncResource):
    """Prompt runs: start, estimate, monitor, read, cancel, retry failures."""

    async def execute(
        self,
        prompt_id: str,
        target: Target | Mapping[str, Any],
        *,
        video_segmentation_type: VideoStrategy | None = None,
        audio_segmentation_type: AudioStrategy | None = None,
        video_segment_duration: int | None = None,
        audio_segment_duration: int | None = None,
        processing_model: str | None = None,
        enable_transcription: bool | None = None,
        enable_image_embedding: bool | None = None,
        segment_options: SegmentOptions | Mapping[str, Any] | None = None,
        evidence: EvidenceOptions | Mapping[str, Any] | None = None,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> PromptRunBody:
        """Start a run; see `PromptRuns.execute`."""
        return await self._send(
            calls.execute(
                prompt_id,
                target,
                video_segmentation_type=video_segmentation_type,
                audio_segmentation_type=audio_segmentation_type,
                video_segment_duration=video_segment_duration,
                audio_segment_duration=audio_segment_duration,
                processing_model=processing_model,
                enable_transcription=enable_transcription,
                enable_image_embedding=enable_image_embedding,
                segment_options=segment_options,
                evidence=evidence,
                name=name,
                tags=tags,
                idempotency_key=idempotency_key,
            )
        )

    async def estimate(
        self,
        prompt_id: str,
        target: Target | Mapping[str, Any],
        *,
        video_segmentation_type: VideoStrategy | None = None,
        audio_segmentation_type: AudioStrategy | None = None,
        video_segment_duration: int | None = None,
        audio_segment_duration: int | None = None,
        processing_model: str | None = None,
        enable_transcription: bool | None = None,
        enable_image_embedding: bool | None = None,
        segment_options: SegmentOptions | Mapping[str, Any] | None = None,
        evidence: EvidenceOptions | Mapping[str, Any] | None = None,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> RunEstimateBody:
        """Estimate a run without starting it. `breakdown` holds the counts; arguments as for `execute`."""
        return await self._send(
            calls.estimate(
                prompt_id,
                target,
                video_segmentation_type=video_segmentation_type,
                audio_segmentation_type=audio_segmentation_type,
                video_segment_duration=video_segment_duration,
                audio_segment_duration=audio_segment_duration,
                processing_model=processing_model,
                enable_transcription=enable_transcription,
                enable_image_embedding=enable_image_embedding,
                segment_options=segment_options,
                evidence=evidence,
                name=name,
                tags=tags,
            )
        )

    async def retrieve(self, run_id: str) -> PromptRunBody:
        """Get a run and its status."""
        return await self._send(calls.retrieve(run_id))

    async def list(
        self, *, limit: int | None = None, name: str | None = None, tags: Mapping[str, str] | None = None
    ) -> builtins.list[PromptRunBody]:
        """List the newest runs with this name and all of these tags, up to `limit` (at most 200)."""
        return await self._send(calls.list_runs(limit=limit, name=name, tags=tags))

    async def list_results(self, run_id: str, video_id: str, *, limit: int | None = None) -> AsyncPage[SegmentResult]:
        """Page through a media item's segments in a run, including failed ones, in time order, `limit` per page."""
        return await self._first_page(calls.list_results(run_id, video_id, limit=limit))

    async def get_video_result(self, run_id: str, video_id: str) -> VideoResult:
        """Get the synthesis of a media item."""
        return await self._send(calls.get_video_result(run_id, video_id))

    async def get_failed_segments(self, run_id: str) -> FailedSegments:
        """List everything that failed in a run and whether each failure is retryable."""
        return await self._send(calls.get_failed_segments(run_id))

    async def get_llm_calls(self, run_id: str) -> builtins.list[LlmCallBody]:
        """List the model calls of a run."""
        return await self._send(calls.get_llm_calls(run_id))

    async def cancel(self, run_id: str, *, idempotency_key: str | None = None) -> PromptRunBody:
        """Ask a run to stop. No new calls start, finished results are saved; wait with `wait_for_completion`."""
        return await self._send(calls.cancel(run_id, idempotency_key=idempotency_key))

    async def retry_segment(
        self, run_id: str, video_id: str, segment_id: str, *, idempotency_key: str | None = None
    ) -> SegmentRetry:
        """Retry the failed operations of one segment of a finished run."""
        return await self._send(calls.retry_segment(run_id, video_id, segment_id, idempotency_key=idempotency_key))

    async def get_segment_retry_status(
        self, run_id: str, video_id: str, segment_id: str, retry_id: str
    ) -> SegmentRetry:
        """Get the status of a single-segment retry."""
        return await self._send(calls.get_segment_retry_status(run_id, video_id, segment_id, retry_id))

    async def retry_failures(
        self,
        run_id: str,
        *,
        operations: Sequence[RetryableOperation] | None = None,
        codes: Sequence[str] | None = None,
        video_ids: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> SegmentRetry:
        """Retry all retryable failures of a finished run, or those of certain operations, failure codes or items."""
        return await self._send(
            calls.retry_failures(
                run_id, operations=operations, codes=codes, video_ids=video_ids, idempotency_key=idempotency_key
            )
        )

    async def get_retry_status(self, run_id: str, retry_id: str) -> SegmentRetry:
        """Get the status of a retry, of one segment or many."""
        return await self._send(calls.get_retry_status(run_id, retry_id))

    async def diff(
        self,
        base_run_id: str,
        other_run_id: str,
        *,
        include_same: bool | None = None,
        field: str | None = None,
        change: str | None = None,
        limit: int | None = None,
    ) -> AsyncDiffPage:
        """Page through the fields that differ between two runs; see `PromptRuns.diff`."""
        listing = calls.diff(
            base_run_id, other_run_id, include_same=include_same, field=field, change=change, limit=limit
        )
        return AsyncDiffPage(self._sender, listing, await self._sender.send(Call(listing.request, RunDiffPage)))

    async def wait_for_completion(
        self,
        run_id: str,
        *,
        timeout_s: float = RUN_TIMEOUT_S,
        poll_interval_s: float = 1.0,
        on_progress: Callable[[PromptRunBody], object | Awaitable[object]] | None = None,
        raise_on_failure: bool = True,
    ) -> PromptRunBody:
        """Wait until a run has finished; see `PromptRuns.wait_for_completion`. `on_progress` may be async."""
        pollable = pollable_run(calls.retrieve(run_id), run_id)
        run = await wait_for_async(self._sender, pollable, PollSettings(timeout_s, poll_interval_s), on_progress)
        return checked_run(run, raise_on_failure)

    async def wait_for_retry(
        self,
        run_id: str,
        retry_id: str,
        *,
        timeout_s: float = RUN_TIMEOUT_S,
        poll_interval_s: float = 1.0,
        on_progress: Callable[[SegmentRetry], object | Awaitable[object]] | None = None,
        raise_on_failure: bool = True,
    ) -> SegmentRetry:
        """Wait until a retry has finished; see `PromptRuns.wait_for_retry`. `on_progress` may be async."""
        pollable = pollable_retry(calls.get_retry_status(run_id, retry_id), run_id, retry_id)
        retry = await wait_for_async(self._sender, pollable, PollSettings(timeout_s, poll_interval_s), on_progress)
        return checked_retry(retry, raise_on_failure)
