"""Media items ("videos", whatever their type): upload, register, read, delete, and their segments."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
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
from promptreel.sdk.request import SLOW_ANSWER_S, Call, Listing, Request, Upload, given, key_for, path_of


def upload(
    file: str | os.PathLike[str] | BinaryIO,
    *,
    title: str | None = None,
    index_id: str | None = None,
    filename: str | None = None,
    idempotency_key: str | None = None,
) -> Call[RegisteredVideo]:
    """Uploads a media item into an index, or into the playground where none is named.

    Raises:
        FileNotFoundError: there is no file at that path.
        TypeError: the file object is open in text mode.
        ValueError: it cannot be rewound, or has no name.
    """
    sent = _upload(file, filename)
    form = {"title": title or sent.name, **given(index_id=index_id)}
    key = key_for("video-upload", idempotency_key)
    request = Request("POST", "/videos/upload", form=form, file=sent, idempotency=key, patience_s=SLOW_ANSWER_S)
    return Call(request, RegisteredVideo)


def register(
    title: str, video_uri: str, *, index_id: str | None = None, idempotency_key: str | None = None
) -> Call[RegisteredVideo]:
    """Registers media that lies elsewhere: a file under a folder that the service allows, an https address, a bucket."""
    body = given(title=title, video_uri=video_uri, index_id=index_id)
    key = key_for("video-register", idempotency_key)
    return Call(Request("POST", "/videos", json=body, idempotency=key, patience_s=SLOW_ANSWER_S), RegisteredVideo)


def retrieve(video_id: str) -> Call[VideoBody]:
    """Gives a media item and how its runs stand on it."""
    return Call(Request("GET", path_of("videos", video_id)), VideoBody)


def delete(video_id: str) -> Call[DeletionStatus]:
    """Deletes a media item; tables of runs that have used it stay. Doing it again changes nothing."""
    return Call(Request("DELETE", path_of("videos", video_id)), DeletionStatus)


def deletion(video_id: str) -> Call[DeletionStatus]:
    """Says how far a deletion is."""
    return Call(Request("GET", path_of("videos", video_id, "deletion")), DeletionStatus)


def list_segments(
    video_id: str, *, run_id: str | None = None, latest_run: bool | None = None, limit: int | None = None
) -> Listing[SegmentBody]:
    """Pages through an item's segments, seen through a run, or through its newest one; `limit` on each page."""
    params = given(run_id=run_id, latest_run=latest_run, limit=limit)
    return Listing(Request("GET", path_of("videos", video_id, "segments"), params), SegmentBody)


def list_prompt_runs(video_id: str, *, limit: int | None = None) -> Call[list[PromptRunBody]]:
    """Gives the runs over a media item, newest first; all of them unless `limit` (at most 200) is given."""
    return Call(Request("GET", path_of("videos", video_id, "prompt-runs"), given(limit=limit)), list[PromptRunBody])


def batch(video_ids: Sequence[str]) -> Call[list[VideoWithDetails]]:
    """Gives up to 100 media items; ids that are not the caller's are left out."""
    return Call(Request("POST", "/videos/batch", json={"video_ids": list(video_ids)}), list[VideoWithDetails])


def batch_status(video_ids: Sequence[str]) -> Call[list[VideoStatus]]:
    """Says where up to 100 media items stand in their runs, segment by segment."""
    return Call(Request("POST", "/videos/batch/status", json={"video_ids": list(video_ids)}), list[VideoStatus])


def batch_segments(
    *,
    video_ids: Sequence[str] | None = None,
    targets: Sequence[SegmentTarget | Mapping[str, Any]] | None = None,
) -> Call[list[VideoSegments]]:
    """Gives the segments of up to 50 media items.

    Raises:
        ValueError: neither is given, or both.
    """
    if (video_ids is None) == (targets is None):
        raise ValueError("give either video_ids or targets")
    body: dict[str, Any] = {"video_ids": list(video_ids)} if video_ids is not None else {}
    if targets is not None:
        body["targets"] = [
            dict(target) if isinstance(target, Mapping) else target.model_dump(mode="json", exclude_none=True)
            for target in targets
        ]
    return Call(Request("POST", "/videos/batch/segments", json=body), list[VideoSegments])


def signed_url(gcs_uri: str, *, force_refresh: bool | None = None) -> Call[SignedUrl]:
    """Gives an address from which the bytes behind a URI of a `gcs_uri` field can be fetched without a key."""
    body = given(gcs_uri=gcs_uri, force_refresh=force_refresh)
    return Call(Request("POST", "/videos/signed-url", json=body), SignedUrl)


def _upload(file: str | os.PathLike[str] | BinaryIO, filename: str | None) -> Upload:
    if isinstance(file, str | os.PathLike):
        path = Path(file)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path} to upload")
        return Upload(filename or path.name, path)
    if isinstance(file.read(0), str):
        raise TypeError("the file is open in text mode; open it in binary mode ('rb')")
    if not file.seekable():
        raise ValueError("the file cannot be rewound, so that it could not be sent again; save it and give its path")
    name = filename or (Path(file.name).name if isinstance(getattr(file, "name", None), str) else "")
    if not name:
        raise ValueError("the file object has no name; give filename=, with the ending of its format")
    return Upload(name, file)
