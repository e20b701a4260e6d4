"""Media of runs of the command line. They stay where they are, and a service reads only what it could also register."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sqlalchemy import Row

from promptreel.api.config import ApiConfig
from promptreel.api.db.models import Video
from promptreel.api.uploads.store import is_in_allowed_bucket
from promptreel.media.source import split_page
from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.uris import is_remote, local_path_of, scheme_of

LOCAL_KIND: Final = "local"  # `source_kind` of the media of the command line


def location_of(video: Video | Row[Any], config: ApiConfig, *, trusts_local: bool = False) -> str | None:
    """Return the local path or object URI of an item's bytes; None if this service must not read them.

    A file of the command line must be in an allowed folder, also through symbolic links, and have the size that the run
    has seen.

    Args:
        trusts_local: whether files of the command line may be anywhere, because only their owner is served.
    """
    if video.source_kind != LOCAL_KIND:
        return str(video.media_uri)
    uri = video.media_uri
    if is_remote(uri):
        return uri if is_in_allowed_bucket(config, uri) else None
    file_uri, page = split_page(uri)
    try:
        path = Path(local_path_of(file_uri) if scheme_of(file_uri) == "file" else file_uri).resolve(strict=True)
        has_changed = page is None and path.stat().st_size != video.size_bytes
        is_readable = path.is_file() and not has_changed
    except (OSError, ValueError, RuntimeError, InvalidInput):
        return None
    is_allowed = trusts_local or any(path.is_relative_to(root) for root in config.media_roots)
    return str(path) if is_readable and is_allowed else None
