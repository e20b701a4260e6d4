"""Indexes: create, list, read, delete."""

from __future__ import annotations

from promptreel.schemas.wire.common import DeletionStatus
from promptreel.schemas.wire.indexes import IndexBody
from promptreel.schemas.wire.prompt_runs import PromptRunBody
from promptreel.schemas.wire.videos import VideoBody
from promptreel.sdk.request import Call, Listing, Request, key_for, omit_none, path_of


def create(name: str, *, description: str | None = None, idempotency_key: str | None = None) -> Call[IndexBody]:
    """Create an index."""
    body = omit_none(name=name, description=description)
    key = key_for("index-create", idempotency_key)
    return Call(Request("POST", "/indexes", json=body, idempotency=key), IndexBody)


def retrieve(index_id: str) -> Call[IndexBody]:
    """Get an index."""
    return Call(Request("GET", path_of("indexes", index_id)), IndexBody)


def list_indexes(*, include_defaults: bool = True) -> Call[list[IndexBody]]:
    """List all indexes, oldest first."""
    return Call(Request("GET", "/indexes", {"include_defaults": include_defaults}), list[IndexBody])


def list_videos(index_id: str, *, limit: int | None = None) -> Listing[VideoBody]:
    """Page through the media of an index, newest first, `limit` per page."""
    return Listing(Request("GET", path_of("indexes", index_id, "videos"), omit_none(limit=limit)), VideoBody)


def list_prompt_runs(index_id: str, *, limit: int | None = None) -> Listing[PromptRunBody]:
    """Page through the runs over an index, newest first, `limit` per page."""
    return Listing(Request("GET", path_of("indexes", index_id, "prompt-runs"), omit_none(limit=limit)), PromptRunBody)


def delete(index_id: str) -> Call[DeletionStatus]:
    """Delete an index and its media. Tables of runs that used them remain. Repeating the call is safe."""
    return Call(Request("DELETE", path_of("indexes", index_id)), DeletionStatus)


def deletion(index_id: str) -> Call[DeletionStatus]:
    """Get the status of a deletion."""
    return Call(Request("GET", path_of("indexes", index_id, "deletion")), DeletionStatus)
