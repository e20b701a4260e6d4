"""The playground: media that lies in no index."""

from __future__ import annotations

from promptreel.schemas.wire.search import SearchResultBody
from promptreel.schemas.wire.videos import VideoBody
from promptreel.sdk.request import Call, Listing, Request, given


def list_videos(*, limit: int | None = None) -> Listing[VideoBody]:
    """Pages through the media of the playground, newest first; `limit` on each page."""
    return Listing(Request("GET", "/playground/videos", given(limit=limit)), VideoBody)


def search(query: str, *, run_id: str | None = None, top_k: int | None = None) -> Call[list[SearchResultBody]]:
    """Searches the playground by text; best first."""
    return Call(
        Request("POST", "/playground/search", given(run_id=run_id), given(query=query, top_k=top_k)),
        list[SearchResultBody],
    )
