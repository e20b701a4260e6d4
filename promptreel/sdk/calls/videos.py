"""Media items (called videos, whatever their type): upload, register, read, delete, list segments."""

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
from promptreel.sdk.request import SLOW_REQUEST_TIMEOUT_S, Call, Listing, Request, Upload, key_for, omit_none, path_of


def upload(
    file: str | os.PathLike[str] | BinaryIO,
    *,
    title: str | None = None,
    index_id: str | None = None,
    filename: str | None = None,
    idempotency_key: str | None = None,
) -> Call[RegisteredVideo]:
    """Upload a media item to an index, or to the playground if `index_id` is None.

    Raises:
        FileNotFoundError: the path is not an existing file.
        TypeError: the file object is open in text mode.
        ValueError: the file object is not seekable or has no name.
    """
    upload_file = _build_upload(file, filename)
    form = {"title": title or upload_file.name, **omit_none(index_id=index_id)}
    key = key_for("video-upload", idempotency_key)
    request = Request(
        "POST", "/videos/upload", form=form, file=upload_file, idempotency=key, min_timeout_s=SLOW_REQUEST_TIMEOUT_S
    )
    return Call(request, RegisteredVideo)


def register(
    title: str, video_uri: str, *, index_id: str | None = None, idempotency_key: str | None = None
) -> Call[RegisteredVideo]:
    """Register media by URI: a file in a folder that the service allows, an https URL, or a bucket object."""
    body = omit_none(title=title, video_uri=video_uri, index_id=index_id)
    key = key_for("video-register", idempotency_key)
    return Call(
        Request("POST", "/videos", json=body, idempotency=key, min_timeout_s=SLOW_REQUEST_TIMEOUT_S), RegisteredVideo
    )


def retrieve(video_id: str) -> Call[VideoBody]:
    """Get a media item and its status in each run."""
    return Call(Request("GET", path_of("videos", video_id)), VideoBody)


def delete(video_id: str) -> Call[DeletionStatus]:
    """Delete a media item. Tables of runs that used it remain. Repeating the call is safe."""
    return Call(Request("DELETE", path_of("videos", video_id)), DeletionStatus)


def deletion(video_id: str) -> Call[DeletionStatus]:
    """Get the status of a deletion."""
    return Call(Request("GET", path_of("videos", video_id, "deletion")), DeletionStatus)


def list_segments(
    video_id: str, *, run_id: str | None = None, latest_run: bool | None = None, limit: int | None = None
) -> Listing[SegmentBody]:
    """Page through a media item's segments in a run, or in its newest run, `limit` per page."""
    params = omit_none(run_id=run_id, latest_run=latest_run, limit=limit)
    return Listing(Request("GET", path_of("videos", video_id, "segments"), params), SegmentBody)


def list_prompt_runs(video_id: str, *, limit: int | None = None) -> Call[list[PromptRunBody]]:
    """List the runs over a media item, newest first; all of them if `limit` (at most 200) is None."""
    return Call(Request("GET", path_of("videos", video_id, "prompt-runs"), omit_none(limit=limit)), list[PromptRunBody])


def batch(video_ids: Sequence[str]) -> Call[list[VideoWithDetails]]:
    """Get up to 100 media items. Ids that do not belong to this account are omitted."""
    return Call(Request("POST", "/videos/batch", json={"video_ids": list(video_ids)}), list[VideoWithDetails])


def batch_status(video_ids: Sequence[str]) -> Call[list[VideoStatus]]:
    """Get the run status of up to 100 media items, segment by segment."""
    return Call(Request("POST", "/videos/batch/status", json={"video_ids": list(video_ids)}), list[VideoStatus])


def batch_segments(
    *,
    video_ids: Sequence[str] | None = None,
    targets: Sequence[SegmentTarget | Mapping[str, Any]] | None = None,
) -> Call[list[VideoSegments]]:
    """Get the segments of up to 50 media items.

    Raises:
        ValueError: neither or both of `video_ids` and `targets` are set.
    """
    if (video_ids is None) == (targets is None):
        raise ValueError("pass exactly one of video_ids and targets")
    body: dict[str, Any] = {"video_ids": list(video_ids)} if video_ids is not None else {}
    if targets is not None:
        body["targets"] = [
            dict(target) if isinstance(target, Mapping) else target.model_dump(mode="json", exclude_none=True)
            for target in targets
        ]
    return Call(Request("POST", "/videos/batch/segments", json=body), list[VideoSegments])


def signed_url(gcs_uri: str, *, force_refresh: bool | None = None) -> Call[SignedUrl]:
    """Get a URL that serves the bytes behind a `gcs_uri` field without an API key."""
    body = omit_none(gcs_uri=gcs_uri, force_refresh=force_refresh)
    return Call(Request("POST", "/videos/signed-url", json=body), SignedUrl)


def _build_upload(file: str | os.PathLike[str] | BinaryIO, filename: str | None) -> Upload:
    if isinstance(file, str | os.PathLike):
        path = Path(file)
        if not path.is_file():
            raise FileNotFoundError(f"cannot upload {path}: no such file")
        return Upload(filename or path.name, path)
    if isinstance(file.read(0), str):
        raise TypeError("the file object is open in text mode; open it in binary mode ('rb')")
    if not file.seekable():
        raise ValueError(
            "the file object is not seekable, so the upload could not be retried; save it and pass its path"
        )
    name = filename or (Path(file.name).name if isinstance(getattr(file, "name", None), str) else "")
    if not name:
        raise ValueError("the file object has no name; pass filename= with the extension of its format")
    return Upload(name, file)
