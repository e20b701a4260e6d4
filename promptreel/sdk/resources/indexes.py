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
    Patience,
    awaited_deletion,
    wait_for,
    wait_for_async,
)


class Indexes(Resource):
    """Indexes: create, list, read, delete."""

    def create(self, name: str, *, description: str | None = None, idempotency_key: str | None = None) -> IndexBody:
        """Creates an index."""
        return self._send(calls.create(name, description=description, idempotency_key=idempotency_key))

    def retrieve(self, index_id: str) -> IndexBody:
        """Gives an index."""
        return self._send(calls.retrieve(index_id))

    def list(self, *, include_defaults: bool = True) -> builtins.list[IndexBody]:
        """Gives all indexes, oldest first."""
        return self._send(calls.list_indexes(include_defaults=include_defaults))

    def list_videos(self, index_id: str, *, limit: int | None = None) -> Page[VideoBody]:
        """Pages through the media of an index, newest first; `limit` on each page."""
        return self._first_page(calls.list_videos(index_id, limit=limit))

    def list_prompt_runs(self, index_id: str, *, limit: int | None = None) -> Page[PromptRunBody]:
        """Pages through the runs over an index, newest first; `limit` on each page."""
        return self._first_page(calls.list_prompt_runs(index_id, limit=limit))

    def delete(self, index_id: str) -> DeletionStatus:
        """Deletes an index and its media; tables of runs that have used them stay. Doing it again changes nothing."""
        return self._send(calls.delete(index_id))

    def deletion(self, index_id: str) -> DeletionStatus:
        """Says how far a deletion is."""
        return self._send(calls.deletion(index_id))

    def wait_for_deletion(
        self, index_id: str, *, timeout_s: float = DELETION_TIMEOUT_S, poll_interval_s: float = 1.0
    ) -> DeletionStatus:
        """Waits until an index that is being deleted is gone.

        Raises:
            NotFoundError: nobody asked for its deletion.
            WaitTimedOut: it was not gone at the deadline; the deletion goes on.
        """
        awaited = awaited_deletion(calls.deletion(index_id), index_id)
        return wait_for(self._sender, awaited, Patience(timeout_s, poll_interval_s))


class AsyncIndexes(AsyncResource):
    """Indexes: create, list, read, delete."""

    async def create(
        self, name: str, *, description: str | None = None, idempotency_key: str | None = None
    ) -> IndexBody:
        """Creates an index."""
        return await self._send(calls.create(name, description=description, idempotency_key=idempotency_key))

    async def retrieve(self, index_id: str) -> IndexBody:
        """Gives an index."""
        return await self._send(calls.retrieve(index_id))

    async def list(self, *, include_defaults: bool = True) -> builtins.list[IndexBody]:
        """Gives all indexes, oldest first."""
        return await self._send(calls.list_indexes(include_defaults=include_defaults))

    async def list_videos(self, index_id: str, *, limit: int | None = None) -> AsyncPage[VideoBody]:
        """Pages through the media of an index, newest first; `limit` on each page."""
        return await self._first_page(calls.list_videos(index_id, limit=limit))

    async def list_prompt_runs(self, index_id: str, *, limit: int | None = None) -> AsyncPage[PromptRunBody]:
        """Pages through the runs over an index, newest first; `limit` on each page."""
        return await self._first_page(calls.list_prompt_runs(index_id, limit=limit))

    async def delete(self, index_id: str) -> DeletionStatus:
        """Deletes an index and its media; tables of runs that have used them stay. Doing it again changes nothing."""
        return await self._send(calls.delete(index_id))

    async def deletion(self, index_id: str) -> DeletionStatus:
        """Says how far a deletion is."""
        return await self._send(calls.deletion(index_id))

    async def wait_for_deletion(
        self, index_id: str, *, timeout_s: float = DELETION_TIMEOUT_S, poll_interval_s: float = 1.0
    ) -> DeletionStatus:
        """See `Indexes.wait_for_deletion`."""
        awaited = awaited_deletion(calls.deletion(index_id), index_id)
        return await wait_for_async(self._sender, awaited, Patience(timeout_s, poll_interval_s))
