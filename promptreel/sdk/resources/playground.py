"""The playground: media outside any index."""

from __future__ import annotations

from promptreel.schemas.wire.search import SearchResultBody
from promptreel.schemas.wire.videos import VideoBody
from promptreel.sdk.calls import playground as calls
from promptreel.sdk.pages import AsyncPage, Page
from promptreel.sdk.resources.base import AsyncResource, Resource


class Playground(Resource):
    """The playground: media outside any index."""

    def list_videos(self, *, limit: int | None = None) -> Page[VideoBody]:
        """Page through the media of the playground, newest first, `limit` per page."""
        return self._first_page(calls.list_videos(limit=limit))

    def search(self, query: str, *, run_id: str | None = None, top_k: int | None = None) -> list[SearchResultBody]:
        """Search the playground by text, best match first."""
        return self._send(calls.search(query, run_id=run_id, top_k=top_k))


class AsyncPlayground(AsyncResource):
    """The playground: media outside any index."""

    async def list_videos(self, *, limit: int | None = None) -> AsyncPage[VideoBody]:
        """Page through the media of the playground, newest first, `limit` per page."""
        return await self._first_page(calls.list_videos(limit=limit))

    async def search(
        self, query: str, *, run_id: str | None = None, top_k: int | None = None
    ) -> list[SearchResultBody]:
        """Search the playground by text, best match first."""
        return await self._send(calls.search(query, run_id=run_id, top_k=top_k))
