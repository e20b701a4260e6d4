"""Media items (called videos, whatever their type): upload, register, read, delete, list segments."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from promptreel.schemas.wire.common import DeletionStatus
from promptreel.schemas.wire.prompt_runs import PromptRunBody
from promptreel.schemas.wire.videos import (
    RegisteredVideo,
    SegmentBody,
    SegmentTarget,
    SignedUrl,
    VideoBody,
    VideoSegments,
    VideoStatus,
    VideoWithDetails,
)
from promptreel.sdk.calls import videos as calls
from promptreel.sdk.pages import AsyncPage, Page
from promptreel.sdk.resources.base import AsyncResource, Resource
from promptreel.sdk.waiting import (
    DELETION_TIMEOUT_S,
    PollSettings,
    pollable_deletion,
    wait_for,
    wait_for_async,
)


class Videos(Resource):
    """Media items: upload, register, read, delete, list segments."""

    def upload(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        title: str | None = None,
        index_id: str | None = None,
        filename: str | None = None,
        idempotency_key: str | None = None,
    ) -> RegisteredVideo:
        """Upload a media item to an index, or to the playground if `index_id` is None.

        Args:
            file: a path, or a seekable file object in binary mode. A file object is sent from its start and stays open.
            title: defaults to the file name.
            filename: file name to send; required if the file object has no name.

        Raises:
            FileNotFoundError: the path is not an existing file.
            TypeError: the file object is open in text mode.
            ValueError: the file object is not seekable or has no name.
        """
        return self._send(
            calls.upload(file, title=title, index_id=index_id, filename=filename, idempotency_key=idempotency_key)
        )

    def register(
        self, title: str, video_uri: str, *, index_id: str | None = None, idempotency_key: str | None = None
    ) -> RegisteredVideo:
        """Register media by URI: a file in a folder that the service allows, an https URL, or a bucket object."""
        return self._send(calls.register(title, video_uri, index_id=index_id, idempotency_key=idempotency_key))

    def retrieve(self, video_id: str) -> VideoBody:
        """Get a media item and its status in each run."""
        return self._send(calls.retrieve(video_id))

    def delete(self, video_id: str) -> DeletionStatus:
        """Delete a media item. Tables of runs that used it remain. Repeating the call is safe."""
        return self._send(calls.delete(video_id))

    def deletion(self, video_id: str) -> DeletionStatus:
        """Get the status of a deletion."""
        return self._send(calls.deletion(video_id))

    def list_segments(
        self, video_id: str, *, run_id: str | None = None, latest_run: bool | None = None, limit: int | None = None
    ) -> Page[SegmentBody]:
        """Page through a media item's segments in a run, or in its newest run, `limit` per page."""
        return self._first_page(calls.list_segments(video_id, run_id=run_id, latest_run=latest_run, limit=limit))

    def list_prompt_runs(self, video_id: str, *, limit: int | None = None) -> list[PromptRunBody]:
        """List the runs over a media item, newest first; all of them if `limit` (at most 200) is None."""
        return self._send(calls.list_prompt_runs(video_id, limit=limit))

    def batch(self, video_ids: Sequence[str]) -> list[VideoWithDetails]:
        """Get up to 100 media items. Ids that do not belong to this account are omitted."""
        return self._send(calls.batch(video_ids))

    def batch_status(self, video_ids: Sequence[str]) -> list[VideoStatus]:
        """Get the run status of up to 100 media items, segment by segment."""
        return self._send(calls.batch_status(video_ids))

    def batch_segments(
        self,
        *,
        video_ids: Sequence[str] | None = None,
        targets: Sequence[SegmentTarget | Mapping[str, Any]] | None = None,
    ) -> list[VideoSegments]:
        """Get the segments of up to 50 media items.

        Args:
            video_ids: items to read in their newest finished run.
            targets: alternatively, items and the run to read each in: `{"video_id": ..., "run_id": ...}`.

        Raises:
            ValueError: neither or both of `video_ids` and `targets` are set.
        """
        return self._send(calls.batch_segments(video_ids=video_ids, targets=targets))

    def signed_url(self, gcs_uri: str, *, force_refresh: bool | None = None) -> SignedUrl:
        """Get a URL that serves the bytes behind a `gcs_uri` field without an API key."""
        return self._send(calls.signed_url(gcs_uri, force_refresh=force_refresh))

    def wait_for_deletion(
        self, video_id: str, *, timeout_s: float = DELETION_TIMEOUT_S, poll_interval_s: float = 1.0
    ) -> DeletionStatus:
        """Wait until the deletion of a media item is complete; see `Indexes.wait_for_deletion`."""
        pollable = pollable_deletion(calls.deletion(video_id), video_id)
        return wait_for(self._sender, pollable, PollSettings(timeout_s, poll_interval_s))


class AsyncVideos(AsyncResource):
    """Media items: upload, register, read, delete, list segments."""

    async def upload(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        title: str | None = None,
        index_id: str | None = None,
        filename: str | None = None,
        idempotency_key: str | None = None,
    ) -> RegisteredVideo:
        """Upload a media item; see `Videos.upload`."""
        return await self._send(
            calls.upload(file, title=title, index_id=index_id, filename=filename, idempotency_key=idempotency_key)
        )

    async def register(
        self, title: str, video_uri: str, *, index_id: str | None = None, idempotency_key: str | None = None
    ) -> RegisteredVideo:
        """Register media by URI: a file in a folder that the service allows, an https URL, or a bucket object."""
        return await self._send(calls.register(title, video_uri, index_id=index_id, idempotency_key=idempotency_key))

    async def retrieve(self, video_id: str) -> VideoBody:
        """Get a media item and its status in each run."""
        return await self._send(calls.retrieve(video_id))

    async def delete(self, video_id: str) -> DeletionStatus:
        """Delete a media item. Tables of runs that used it remain. Repeating the call is safe."""
        return await self._send(calls.delete(video_id))

    async def deletion(self, video_id: str) -> DeletionStatus:
        """Get the status of a deletion."""
        return await self._send(calls.deletion(video_id))

    async def list_segments(
        self, video_id: str, *, run_id: str | None = None, latest_run: bool | None = None, limit: int | None = None
    ) -> AsyncPage[SegmentBody]:
        """Page through a media item's segments in a run, or in its newest run, `limit` per page."""
        return await self._first_page(calls.list_segments(video_id, run_id=run_id, latest_run=latest_run, limit=limit))

    async def list_prompt_runs(self, video_id: str, *, limit: int | None = None) -> list[PromptRunBody]:
        """List the runs over a media item, newest first; all of them if `limit` (at most 200) is None."""
        return await self._send(calls.list_prompt_runs(video_id, limit=limit))

    async def batch(self, video_ids: Sequence[str]) -> list[VideoWithDetails]:
        """Get up to 100 media items. Ids that do not belong to this account are omitted."""
        return await self._send(calls.batch(video_ids))

    async def batch_status(self, video_ids: Sequence[str]) -> list[VideoStatus]:
        """Get the run status of up to 100 media items, segment by segment."""
        return await self._send(calls.batch_status(video_ids))

    async def batch_segments(
        self,
        *,
        video_ids: Sequence[str] | None = None,
        targets: Sequence[SegmentTarget | Mapping[str, Any]] | None = None,
    ) -> list[VideoSegments]:
        """Get the segments of up to 50 media items; see `Videos.batch_segments`."""
        return await self._send(calls.batch_segments(video_ids=video_ids, targets=targets))

    async def signed_url(self, gcs_uri: str, *, force_refresh: bool | None = None) -> SignedUrl:
        """Get a URL that serves the bytes behind a `gcs_uri` field without an API key."""
        return await self._send(calls.signed_url(gcs_uri, force_refresh=force_refresh))

    async def wait_for_deletion(
        self, video_id: str, *, timeout_s: float = DELETION_TIMEOUT_S, poll_interval_s: float = 1.0
    ) -> DeletionStatus:
        """Wait until the deletion of a media item is complete; see `Videos.wait_for_deletion`."""
        pollable = pollable_deletion(calls.deletion(video_id), video_id)
        return await wait_for_async(self._sender, pollable, PollSettings(timeout_s, poll_interval_s))
