"""Prompt runs: start, estimate, follow, read, cancel, and retry what failed."""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from promptreel.schemas.strategies import AudioStrategy, VideoStrategy
from promptreel.schemas.wire.diff import RunDiffPage
from promptreel.schemas.wire.prompt_runs import (
    FailedSegments,
    LlmCallBody,
    PromptRunBody,
    RetryableOperation,
    RunEstimateBody,
    SegmentResult,
    SegmentRetry,
    VideoResult,
)
from promptreel.sdk.calls import prompt_runs as calls
from promptreel.sdk.calls.prompt_runs import Target
from promptreel.sdk.pages import AsyncDiffPage, AsyncPage, DiffPage, Page
from promptreel.sdk.request import Call
from promptreel.sdk.resources.base import AsyncResource, Resource
from promptreel.sdk.waiting import (
    RUN_TIMEOUT_S,
    Patience,
    awaited_retry,
    awaited_run,
    checked_retry,
    checked_run,
    wait_for,
    wait_for_async,
)


class PromptRuns(Resource):
    """Prompt runs: start, estimate, follow, read, cancel, and retry what failed."""

    def execute(
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
        idempotency_key: str | None = None,
    ) -> PromptRunBody:
        """Starts a run; it waits for its turn. What is None is left to the service.

        Args:
            target: `{"type": "index", "index_id": ...}`, `{"type": "videos", "video_ids": [...]}` (with the `index_id` in
                which they lie, if any) or `{"type": "playground"}`.
            video_segment_duration, audio_segment_duration: seconds of a window, 1 to 300; for `fixed` alone, which needs it.
            idempotency_key: names this start; the same one again gives the same run.
        """
        return self._send(
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
                idempotency_key=idempotency_key,
            )
        )

    def estimate(
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
    ) -> RunEstimateBody:
        """Says what a run would take, in `breakdown`, and starts nothing; arguments as for `execute`."""
        return self._send(
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
            )
        )

    def retrieve(self, run_id: str) -> PromptRunBody:
        """Get a run and its status."""
        return self._send(calls.retrieve(run_id))

    def list(self, *, limit: int | None = None) -> builtins.list[PromptRunBody]:
        """Gives the newest runs, up to `limit` (at most 200)."""
        return self._send(calls.list_runs(limit=limit))

    def list_results(self, run_id: str, video_id: str, *, limit: int | None = None) -> Page[SegmentResult]:
        """Pages through the segments of one media item in a run, failed ones too, in order of time; `limit` on each page."""
        return self._first_page(calls.list_results(run_id, video_id, limit=limit))

    def get_video_result(self, run_id: str, video_id: str) -> VideoResult:
        """Gives the synthesis of one media item."""
        return self._send(calls.get_video_result(run_id, video_id))

    def get_failed_segments(self, run_id: str) -> FailedSegments:
        """Gives everything of a run that failed, and whether trying again may help."""
        return self._send(calls.get_failed_segments(run_id))

    def get_llm_calls(self, run_id: str) -> builtins.list[LlmCallBody]:
        """Gives every model call of a run."""
        return self._send(calls.get_llm_calls(run_id))

    def cancel(self, run_id: str, *, idempotency_key: str | None = None) -> PromptRunBody:
        """Asks a run to stop: no new call begins, what is finished is kept. Wait for its completion to see it cancelled."""
        return self._send(calls.cancel(run_id, idempotency_key=idempotency_key))

    def retry_segment(
        self, run_id: str, video_id: str, segment_id: str, *, idempotency_key: str | None = None
    ) -> SegmentRetry:
        """Tries the failed operations of one segment of a finished run again."""
        return self._send(calls.retry_segment(run_id, video_id, segment_id, idempotency_key=idempotency_key))

    def get_segment_retry_status(self, run_id: str, video_id: str, segment_id: str, retry_id: str) -> SegmentRetry:
        """Says how a retry of one segment stands."""
        return self._send(calls.get_segment_retry_status(run_id, video_id, segment_id, retry_id))

    def retry_failures(
        self,
        run_id: str,
        *,
        operations: Sequence[RetryableOperation] | None = None,
        codes: Sequence[str] | None = None,
        video_ids: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> SegmentRetry:
        """Tries all retryable failures of a finished run again, or those of some operations, failure codes or items."""
        return self._send(
            calls.retry_failures(
                run_id, operations=operations, codes=codes, video_ids=video_ids, idempotency_key=idempotency_key
            )
        )

    def get_retry_status(self, run_id: str, retry_id: str) -> SegmentRetry:
        """Says how a retry stands, of one segment or of many."""
        return self._send(calls.get_retry_status(run_id, retry_id))

    def diff(
        self, base_run_id: str, other_run_id: str, *, include_same: bool | None = None, limit: int | None = None
    ) -> DiffPage:
        """Pages through the fields that differ between two runs over the same media, in order of item and time. The first
        page holds the `summary`.

        Args:
            base_run_id: the run whose values are `before`; those of the other are `after`.
            include_same: whether what did not change is listed too.
            limit: rows of each page.
        """
        listing = calls.diff(base_run_id, other_run_id, include_same=include_same, limit=limit)
        return DiffPage(self._sender, listing, self._sender.send(Call(listing.request, RunDiffPage)))

    def wait_for_completion(
        self,
        run_id: str,
        *,
        timeout_s: float = RUN_TIMEOUT_S,
        poll_interval_s: float = 1.0,
        on_progress: Callable[[PromptRunBody], object] | None = None,
        raise_on_failure: bool = True,
    ) -> PromptRunBody:
        """Waits until a run has ended, and gives its last state. Outages of the service are waited out.

        Args:
            timeout_s: seconds after which the wait ends, whatever happens.
            poll_interval_s: seconds between the first two looks; later ones are up to 5 s apart.
            on_progress: is told each state that was seen.
            raise_on_failure: whether a failed run raises; a cancelled one never does.

        Raises:
            RunFailed: the run failed.
            WaitTimedOut: it had not ended at the deadline; it goes on.
        """
        awaited = awaited_run(calls.retrieve(run_id), run_id)
        run = wait_for(self._sender, awaited, Patience(timeout_s, poll_interval_s), on_progress)
        return checked_run(run, raise_on_failure)

    def wait_for_retry(
        self,
        run_id: str,
        retry_id: str,
        *,
        timeout_s: float = RUN_TIMEOUT_S,
        poll_interval_s: float = 1.0,
        on_progress: Callable[[SegmentRetry], object] | None = None,
        raise_on_failure: bool = True,
    ) -> SegmentRetry:
        """Waits until a retry, of one segment or of many, has ended; see `wait_for_completion`."""
        awaited = awaited_retry(calls.get_retry_status(run_id, retry_id), run_id, retry_id)
        retry = wait_for(self._sender, awaited, Patience(timeout_s, poll_interval_s), on_progress)
        return checked_retry(retry, raise_on_failure)


class AsyncPromptRuns(AsyncResource):
    """Prompt runs: start, estimate, follow, read, cancel, and retry what failed."""

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
        idempotency_key: str | None = None,
    ) -> PromptRunBody:
        """Starts a run; it waits for its turn. What is None is left to the service.

        See `PromptRuns.execute`.
        """
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
    ) -> RunEstimateBody:
        """Says what a run would take, in `breakdown`, and starts nothing; arguments as for `execute`."""
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
            )
        )

    async def retrieve(self, run_id: str) -> PromptRunBody:
        """Get a run and its status."""
        return await self._send(calls.retrieve(run_id))

    async def list(self, *, limit: int | None = None) -> builtins.list[PromptRunBody]:
        """Gives the newest runs, up to `limit` (at most 200)."""
        return await self._send(calls.list_runs(limit=limit))

    async def list_results(self, run_id: str, video_id: str, *, limit: int | None = None) -> AsyncPage[SegmentResult]:
        """Pages through the segments of one media item in a run, failed ones too, in order of time; `limit` on each page."""
        return await self._first_page(calls.list_results(run_id, video_id, limit=limit))

    async def get_video_result(self, run_id: str, video_id: str) -> VideoResult:
        """Gives the synthesis of one media item."""
        return await self._send(calls.get_video_result(run_id, video_id))

    async def get_failed_segments(self, run_id: str) -> FailedSegments:
        """Gives everything of a run that failed, and whether trying again may help."""
        return await self._send(calls.get_failed_segments(run_id))

    async def get_llm_calls(self, run_id: str) -> builtins.list[LlmCallBody]:
        """Gives every model call of a run."""
        return await self._send(calls.get_llm_calls(run_id))

    async def cancel(self, run_id: str, *, idempotency_key: str | None = None) -> PromptRunBody:
        """Asks a run to stop: no new call begins, what is finished is kept. Wait for its completion to see it cancelled."""
        return await self._send(calls.cancel(run_id, idempotency_key=idempotency_key))

    async def retry_segment(
        self, run_id: str, video_id: str, segment_id: str, *, idempotency_key: str | None = None
    ) -> SegmentRetry:
        """Tries the failed operations of one segment of a finished run again."""
        return await self._send(calls.retry_segment(run_id, video_id, segment_id, idempotency_key=idempotency_key))

    async def get_segment_retry_status(
        self, run_id: str, video_id: str, segment_id: str, retry_id: str
    ) -> SegmentRetry:
        """Says how a retry of one segment stands."""
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
        """Tries all retryable failures of a finished run again, or those of some operations, failure codes or items."""
        return await self._send(
            calls.retry_failures(
                run_id, operations=operations, codes=codes, video_ids=video_ids, idempotency_key=idempotency_key
            )
        )

    async def get_retry_status(self, run_id: str, retry_id: str) -> SegmentRetry:
        """Says how a retry stands, of one segment or of many."""
        return await self._send(calls.get_retry_status(run_id, retry_id))

    async def diff(
        self, base_run_id: str, other_run_id: str, *, include_same: bool | None = None, limit: int | None = None
    ) -> AsyncDiffPage:
        """See `PromptRuns.diff`."""
        listing = calls.diff(base_run_id, other_run_id, include_same=include_same, limit=limit)
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
        """See `PromptRuns.wait_for_completion`; `on_progress` may be a coroutine function."""
        awaited = awaited_run(calls.retrieve(run_id), run_id)
        run = await wait_for_async(self._sender, awaited, Patience(timeout_s, poll_interval_s), on_progress)
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
        """See `PromptRuns.wait_for_retry`; `on_progress` may be a coroutine function."""
        awaited = awaited_retry(calls.get_retry_status(run_id, retry_id), run_id, retry_id)
        retry = await wait_for_async(self._sender, awaited, Patience(timeout_s, poll_interval_s), on_progress)
        return checked_retry(retry, raise_on_failure)
