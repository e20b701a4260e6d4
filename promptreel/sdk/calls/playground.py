"""The playground: media outside any index."""

from __future__ import annotations

from promptreel.schemas.wire.search import SearchResultBody
from promptreel.schemas.wire.videos import VideoBody
from promptreel.sdk.request import Call, Listing, Request, omit_none


def list_videos(*, limit: int | None = None) -> Listing[VideoBody]:
    """Page through the media of the playground, newest first, `limit` per page."""
    return Listing(Request("GET", "/playground/videos", omit_none(limit=limit)), VideoBody)


def search(query: str, *, run_id: str | None = None, top_k: int | None = None) -> Call[list[SearchResultBody]]:
    """Search the playground by text, best match first."""
    return Call(
        Request("POST", "/playground/search", omit_none(run_id=run_id), omit_none(query=query, top_k=top_k)),
        list[SearchResultBody],
    )
