"""Serve the bytes of a media item: with byte ranges, so that players can seek, and never as a page of this service."""

from __future__ import annotations

import mimetypes
import os
import re
from typing import Final

from fastapi import Request
from fastapi.responses import FileResponse, Response, StreamingResponse

from promptreel.api.db.models import Video
from promptreel.api.uploads.local_files import location_of
from promptreel.api.uploads.store import blocks_of, open_object
from promptreel.api.web.errors import ApiError

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_UNKNOWN: Final = "application/octet-stream"
_KINDS: Final = ("video/", "audio/", "image/")

# A file can contain markup as well, and pages share this origin: a browser must neither guess its type nor run it.
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-site",
}


def content_type(name: str) -> str:
    """Return the media type of a file by its name; anything that is not video, sound or a picture is bytes.

    >>> content_type("a.mp4"), content_type("a.html"), content_type("a.svg")
    ('video/mp4', 'application/octet-stream', 'application/octet-stream')
    """
    guessed = mimetypes.guess_type(name)[0] or ""
    return guessed if guessed.startswith(_KINDS) and guessed != "image/svg+xml" else _UNKNOWN


def content_response(request: Request, video: Video) -> Response:
    """Respond with the bytes of an item, or with the range that a player requests.

    Raises:
        FileNotFoundError, NotADirectoryError: the file does not exist, or this service must not read it.
        ApiError: 416 if the range is outside the file.
    """
    location = location_of(video, request.app.state.config, trusts_local=request.app.state.trusts_local_files)
    if location is None:
        raise FileNotFoundError(video.media_uri)
    kind = content_type(location)
    if "://" not in location:
        stat = os.stat(location)
        return FileResponse(location, stat_result=stat, media_type=kind, headers=dict(_HEADERS))
    file, size = open_object(location)
    headers = {**_HEADERS, "Accept-Ranges": "bytes"}
    wanted = _RANGE.fullmatch(request.headers.get("range", ""))
    if size is None or wanted is None or wanted[0] == "bytes=-":
        headers |= {} if size is None else {"Content-Length": str(size)}
        return StreamingResponse(blocks_of(file), media_type=kind, headers=headers)
    first, last = _bounds(wanted[1], wanted[2], size)
    if first > last:
        file.close()
        raise ApiError(416, "range_not_satisfiable", f"The file has {size} bytes.", {"size_bytes": size})
    file.seek(first)
    headers |= {"Content-Range": f"bytes {first}-{last}/{size}", "Content-Length": str(last - first + 1)}
    return StreamingResponse(blocks_of(file, last - first + 1), status_code=206, media_type=kind, headers=headers)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """Return the first and last byte of a range (RFC 9110, section 14.1.2); the first is larger if there are none."""
    if not first:
        return (size - min(int(last), size), size - 1) if int(last) else (1, 0)
    return int(first), min(int(last), size - 1) if last else size - 1
