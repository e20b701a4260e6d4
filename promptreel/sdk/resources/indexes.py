"""Indexes: create, list, read, delete."""

from __future__ import annotations

import builtins

from promptreel.schemas.wire.common import DeletionStatus
from promptreel.schemas.wire.indexes import IndexBody
from promptreel.schemas.wire.prompt_runs import PromptRunBody
from promptreel.schemas.wire.videos import VideoBody
from promptreel.sdk.calls import indexes as calls
from promptreel.sdk.pages import AsyncPage, Page
from promptreel.sdk.resources.base import AsyncResource, Resource
from promptreel.sdk.waiting import (
    DELETION_TIMEOUT_S,
    PollSettings,
    pollable_deletion,
    wait_for,
    wait_for_async,
)


class Indexes(Resource):
    """Indexes: create, list, read, delete."""

    def create(self, name: str, *, description: str | None = None, idempotency_key: str | None = None) -> IndexBody:
        """Create an index."""
        return self._send(calls.create(name, description=description, idempotency_key=idempotency_key))

    def retrieve(self, index_id: str) -> IndexBody:
        """Get an index."""
        return self._send(calls.retrieve(index_id))

    def list(self, *, include_defaults: bool = True) -> builtins.list[IndexBody]:
        """List all indexes, oldest first."""
        return self._send(calls.list_indexes(include_defaults=include_defaults))

    def list_videos(self, index_id: str, *, limit: int | None = None) -> Page[VideoBody]:
        """Page through the media of an index, newest first, `limit` per page."""
        return self._first_page(calls.list_videos(index_id, limit=limit))

    def list_prompt_runs(self, index_id: str, *, limit: int | None = None) -> Page[PromptRunBody]:
        """Page through the runs over an index, newest first, `limit` per page."""
        return self._first_page(calls.list_prompt_runs(index_id, limit=limit))

    def delete(self, index_id: str) -> DeletionStatus:
        """Delete an index and its media. Tables of runs that used them remain. Repeating the call is safe."""
        return self._send(calls.delete(index_id))

    def deletion(self, index_id: str) -> DeletionStatus:
        """Get the status of a deletion."""
        return self._send(calls.deletion(index_id))

    def wait_for_deletion(
        self, index_id: str, *, timeout_s: float = DELETION_TIMEOUT_S, poll_interval_s: float = 1.0
    ) -> DeletionStatus:
        """Wait until the deletion of an index is complete.

        Raises:
            NotFoundError: no deletion of this index was requested.
            WaitTimedOut: the deletion did not finish within `timeout_s`; it continues on the service.
        """
        pollable = pollable_deletion(calls.deletion(index_id), index_id)
        return wait_for(self._sender, pollable, PollSettings(timeout_s, poll_interval_s))


class AsyncIndexes(AsyncResource):
    """Indexes: create, list, read, delete."""

    async def create(
        self, name: str, *, description: str | None = None, idempotency_key: str | None = None
    ) -> IndexBody:
        """Create an index."""
        return await self._send(calls.create(name, description=description, idempotency_key=idempotency_key))

    async def retrieve(self, index_id: str) -> IndexBody:
        """Get an index."""
        return await self._send(calls.retrieve(index_id))

    async def list(self, *, include_defaults: bool = True) -> builtins.list[IndexBody]:
        """List all indexes, oldest first."""
        return await self._send(calls.list_indexes(include_defaults=include_defaults))

    async def list_videos(self, index_id: str, *, limit: int | None = None) -> AsyncPage[VideoBody]:
        """Page through the media of an index, newest first, `limit` per page."""
        return await self._first_page(calls.list_videos(index_id, limit=limit))

    async def list_prompt_runs(self, index_id: str, *, limit: int | None = None) -> AsyncPage[PromptRunBody]:
        """Page through the runs over an index, newest first, `limit` per page."""
        return await self._first_page(calls.list_prompt_runs(index_id, limit=limit))

    async def delete(self, index_id: str) -> DeletionStatus:
        """Delete an index and its media. Tables of runs that used them remain. Repeating the call is safe."""
        return await self._send(calls.delete(index_id))

    async def deletion(self, index_id: str) -> DeletionStatus:
        """Get the status of a deletion."""
        return await self._send(calls.deletion(index_id))

    async def wait_for_deletion(
        self, index_id: str, *, timeout_s: float = DELETION_TIMEOUT_S, poll_interval_s: float = 1.0
    ) -> DeletionStatus:
        """Wait until the deletion of an index is complete; see `Indexes.wait_for_deletion`."""
        pollable = pollable_deletion(calls.deletion(index_id), index_id)
        return await wait_for_async(self._sender, pollable, PollSettings(timeout_s, poll_interval_s))
