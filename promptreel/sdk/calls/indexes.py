"""Indexes: create, list, read, delete."""

from __future__ import annotations

from promptreel.schemas.wire.common import DeletionStatus
from promptreel.schemas.wire.indexes import IndexBody
from promptreel.schemas.wire.prompt_runs import PromptRunBody
from promptreel.schemas.wire.videos import VideoBody
from promptreel.sdk.request import Call, Listing, Request, given, key_for, path_of


def create(name: str, *, description: str | None = None, idempotency_key: str | None = None) -> Call[IndexBody]:
    """Creates an index."""
    body = given(name=name, description=description)
    key = key_for("index-create", idempotency_key)
    return Call(Request("POST", "/indexes", json=body, idempotency=key), IndexBody)


def retrieve(index_id: str) -> Call[IndexBody]:
    """Gives an index."""
    return Call(Request("GET", path_of("indexes", index_id)), IndexBody)


def list_indexes(*, include_defaults: bool = True) -> Call[list[IndexBody]]:
    """Gives all indexes, oldest first."""
    return Call(Request("GET", "/indexes", {"include_defaults": include_defaults}), list[IndexBody])


def list_videos(index_id: str, *, limit: int | None = None) -> Listing[VideoBody]:
    """Pages through the media of an index, newest first; `limit` on each page."""
    return Listing(Request("GET", path_of("indexes", index_id, "videos"), given(limit=limit)), VideoBody)


def list_prompt_runs(index_id: str, *, limit: int | None = None) -> Listing[PromptRunBody]:
    """Pages through the runs over an index, newest first; `limit` on each page."""
    return Listing(Request("GET", path_of("indexes", index_id, "prompt-runs"), given(limit=limit)), PromptRunBody)


def delete(index_id: str) -> Call[DeletionStatus]:
    """Deletes an index and its media; tables of runs that have used them stay. Doing it again changes nothing."""
    return Call(Request("DELETE", path_of("indexes", index_id)), DeletionStatus)


def deletion(index_id: str) -> Call[DeletionStatus]:
    """Says how far a deletion is."""
    return Call(Request("GET", path_of("indexes", index_id, "deletion")), DeletionStatus)
