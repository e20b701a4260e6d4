"""Media items ("videos", whatever their type): upload, register, read, delete, and their segments."""

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
    Patience,
    awaited_deletion,
    wait_for,
    wait_for_async,
)


class Videos(Resource):
    """Media items: upload, register, read, delete, and their segments."""

    def upload(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        title: str | None = None,
        index_id: str | None = None,
        filename: str | None = None,
        idempotency_key: str | None = None,
    ) -> RegisteredVideo:
        """Uploads a media item into an index, or into the playground where none is named.

        Args:
            file: a path, or a file object that is open in binary mode and can be rewound; it is sent from its beginning and
                stays open.
            title: the file's name, unless given.
            filename: name under which it is sent; required where a file object has none.

        Raises:
            FileNotFoundError: there is no file at that path.
            TypeError: the file object is open in text mode.
            ValueError: it cannot be rewound, or has no name.
        """
        return self._send(
            calls.upload(file, title=title, index_id=index_id, filename=filename, idempotency_key=idempotency_key)
        )

    def register(
        self, title: str, video_uri: str, *, index_id: str | None = None, idempotency_key: str | None = None
    ) -> RegisteredVideo:
        """Registers media that lies elsewhere: a file under a folder that the service allows, an https address, a bucket."""
        return self._send(calls.register(title, video_uri, index_id=index_id, idempotency_key=idempotency_key))

    def retrieve(self, video_id: str) -> VideoBody:
        """Gives a media item and how its runs stand on it."""
        return self._send(calls.retrieve(video_id))

    def delete(self, video_id: str) -> DeletionStatus:
        """Deletes a media item; tables of runs that have used it stay. Doing it again changes nothing."""
        return self._send(calls.delete(video_id))

    def deletion(self, video_id: str) -> DeletionStatus:
        """Says how far a deletion is."""
        return self._send(calls.deletion(video_id))

    def list_segments(
        self, video_id: str, *, run_id: str | None = None, latest_run: bool | None = None, limit: int | None = None
    ) -> Page[SegmentBody]:
        """Pages through an item's segments, seen through a run, or through its newest one; `limit` on each page."""
        return self._first_page(calls.list_segments(video_id, run_id=run_id, latest_run=latest_run, limit=limit))

    def list_prompt_runs(self, video_id: str, *, limit: int | None = None) -> list[PromptRunBody]:
        """Gives the runs over a media item, newest first; all of them unless `limit` (at most 200) is given."""
        return self._send(calls.list_prompt_runs(video_id, limit=limit))

    def batch(self, video_ids: Sequence[str]) -> list[VideoWithDetails]:
        """Gives up to 100 media items; ids that are not the caller's are left out."""
        return self._send(calls.batch(video_ids))

    def batch_status(self, video_ids: Sequence[str]) -> list[VideoStatus]:
        """Says where up to 100 media items stand in their runs, segment by segment."""
        return self._send(calls.batch_status(video_ids))

    def batch_segments(
        self,
        *,
        video_ids: Sequence[str] | None = None,
        targets: Sequence[SegmentTarget | Mapping[str, Any]] | None = None,
    ) -> list[VideoSegments]:
        """Gives the segments of up to 50 media items.

        Args:
            video_ids: items, each seen through its newest finished run.
            targets: instead of them, items with the run that each is seen through: `{"video_id": ..., "run_id": ...}`.

        Raises:
            ValueError: neither is given, or both.
        """
        return self._send(calls.batch_segments(video_ids=video_ids, targets=targets))

    def signed_url(self, gcs_uri: str, *, force_refresh: bool | None = None) -> SignedUrl:
        """Gives an address from which the bytes behind a URI of a `gcs_uri` field can be fetched without a key."""
        return self._send(calls.signed_url(gcs_uri, force_refresh=force_refresh))

    def wait_for_deletion(
        self, video_id: str, *, timeout_s: float = DELETION_TIMEOUT_S, poll_interval_s: float = 1.0
    ) -> DeletionStatus:
        """Waits until a media item that is being deleted is gone; see `Indexes.wait_for_deletion`."""
        awaited = awaited_deletion(calls.deletion(video_id), video_id)
        return wait_for(self._sender, awaited, Patience(timeout_s, poll_interval_s))


class AsyncVideos(AsyncResource):
    """Media items: upload, register, read, delete, and their segments."""

    async def upload(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        title: str | None = None,
        index_id: str | None = None,
        filename: str | None = None,
        idempotency_key: str | None = None,
    ) -> RegisteredVideo:
        """Uploads a media item into an index, or into the playground where none is named.

        See `Videos.upload`.
        """
        return await self._send(
            calls.upload(file, title=title, index_id=index_id, filename=filename, idempotency_key=idempotency_key)
        )

    async def register(
        self, title: str, video_uri: str, *, index_id: str | None = None, idempotency_key: str | None = None
    ) -> RegisteredVideo:
        """Registers media that lies elsewhere: a file under a folder that the service allows, an https address, a bucket."""
        return await self._send(calls.register(title, video_uri, index_id=index_id, idempotency_key=idempotency_key))

    async def retrieve(self, video_id: str) -> VideoBody:
        """Gives a media item and how its runs stand on it."""
        return await self._send(calls.retrieve(video_id))

    async def delete(self, video_id: str) -> DeletionStatus:
        """Deletes a media item; tables of runs that have used it stay. Doing it again changes nothing."""
        return await self._send(calls.delete(video_id))

    async def deletion(self, video_id: str) -> DeletionStatus:
        """Says how far a deletion is."""
        return await self._send(calls.deletion(video_id))

    async def list_segments(
        self, video_id: str, *, run_id: str | None = None, latest_run: bool | None = None, limit: int | None = None
    ) -> AsyncPage[SegmentBody]:
        """Pages through an item's segments, seen through a run, or through its newest one; `limit` on each page."""
        return await self._first_page(calls.list_segments(video_id, run_id=run_id, latest_run=latest_run, limit=limit))

    async def list_prompt_runs(self, video_id: str, *, limit: int | None = None) -> list[PromptRunBody]:
        """Gives the runs over a media item, newest first; all of them unless `limit` (at most 200) is given."""
        return await self._send(calls.list_prompt_runs(video_id, limit=limit))

    async def batch(self, video_ids: Sequence[str]) -> list[VideoWithDetails]:
        """Gives up to 100 media items; ids that are not the caller's are left out."""
        return await self._send(calls.batch(video_ids))

    async def batch_status(self, video_ids: Sequence[str]) -> list[VideoStatus]:
        """Says where up to 100 media items stand in their runs, segment by segment."""
        return await self._send(calls.batch_status(video_ids))

    async def batch_segments(
        self,
        *,
        video_ids: Sequence[str] | None = None,
        targets: Sequence[SegmentTarget | Mapping[str, Any]] | None = None,
    ) -> list[VideoSegments]:
        """Gives the segments of up to 50 media items.

        See `Videos.batch_segments`.
        """
        return await self._send(calls.batch_segments(video_ids=video_ids, targets=targets))

    async def signed_url(self, gcs_uri: str, *, force_refresh: bool | None = None) -> SignedUrl:
        """Gives an address from which the bytes behind a URI of a `gcs_uri` field can be fetched without a key."""
        return await self._send(calls.signed_url(gcs_uri, force_refresh=force_refresh))

    async def wait_for_deletion(
        self, video_id: str, *, timeout_s: float = DELETION_TIMEOUT_S, poll_interval_s: float = 1.0
    ) -> DeletionStatus:
        """See `Indexes.wait_for_deletion`."""
        awaited = awaited_deletion(calls.deletion(video_id), video_id)
        return await wait_for_async(self._sender, awaited, Patience(timeout_s, poll_interval_s))
