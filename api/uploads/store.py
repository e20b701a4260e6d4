"""Store the bytes of media: uploads and HTTPS downloads in the data folder; files and objects stay where they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote, urlsplit

import fsspec

from promptreel.api.config import ApiConfig
from promptreel.api.uploads.fetch import fetch_https
from promptreel.api.web.errors import ApiError, invalid
from promptreel.media.probe import probe_media
from promptreel.schemas.errors import MediaError, StorageError
from promptreel.schemas.media import MediaInfo
from promptreel.schemas.settings import MediaLimits
from promptreel.tables.storage import LocalStorage, Storage, storage_errors

_BLOCK: Final = 1 << 20
_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9]{1,8}")


@dataclass(frozen=True, slots=True)
class StoredMedia:
    """The location of a media item's bytes, and their probe result.

    Attributes:
        media_uri: local path or object URI that runs read from.
        kind: "upload", "file", "https", or "bucket"; "local" for media of the command line, see `local_files`.
    """

    media_uri: str
    kind: str
    info: MediaInfo


def store_upload(storage: Storage, config: ApiConfig, video_id: str, filename: str, source: Path) -> StoredMedia:
    """Move a local file into the data folder.

    Raises:
        MediaError: the file is not readable media, or exceeds a limit.
    """
    return _store_file(storage, config, video_id, filename, source, "upload")


def register_uri(storage: Storage, config: ApiConfig, video_id: str, uri: str) -> StoredMedia:
    """Check that the configuration allows a URI, and probe its media. Copy HTTPS media into the data folder.

    Raises:
        ApiError: the URI is not allowed, or cannot be fetched.
        MediaError: the file is not readable media, or exceeds a limit.
    """
    try:
        scheme = urlsplit(uri).scheme
    except ValueError as error:
        raise invalid(f"video_uri: not a valid URI ({error})", "video_uri") from error
    if scheme == "file":
        path = _allowed_file(config, uri)
        return StoredMedia(str(path), "file", _probe(config, path, uri))
    if scheme == "https":
        if not config.allow_https:
            raise invalid("video_uri: HTTPS media is disabled on this service; upload the file instead", "video_uri")
        with storage.work_folder() as work:
            fetched = work / "fetched"
            fetch_https(uri, fetched, config.max_upload_bytes)
            return _store_file(storage, config, video_id, urlsplit(uri).path, fetched, "https")
    if scheme in ("gs", "s3"):
        if not is_in_allowed_bucket(config, uri):
            allowed = ", ".join(config.media_buckets) or "none"
            raise invalid(f"video_uri: this bucket is not allowed; allowed buckets: {allowed}", "video_uri")
        with storage.work_folder() as work:
            fetched = work / "fetched"
            _fetch_object(uri, fetched, config.max_upload_bytes)
            return StoredMedia(uri, "bucket", _probe(config, fetched, uri))
    message = "video_uri: use file:// in an allowed folder, https://, or gs:// or s3:// in an allowed bucket"
    raise invalid(message, "video_uri")


def discard(storage: Storage, media_uri: str, kind: str) -> None:
    """Remove bytes that this service has stored. Registered files and objects are not touched."""
    if kind in ("upload", "https"):
        storage.remove(_storage_name(storage, media_uri))


def limits_of(config: ApiConfig) -> MediaLimits:
    """Return the limits of one media item."""
    return MediaLimits(
        max_duration_s=config.max_media_seconds,
        max_image_pixels=round(config.max_image_megapixels * 1e6),
        max_damaged_share=config.max_media_damage,
    )


def is_local(uri: str) -> bool:
    """Return whether a URI names a local file, which needs no fetch."""
    return uri[:5].lower() == "file:"


def is_in_allowed_bucket(config: ApiConfig, uri: str) -> bool:
    """Return whether a URI names an object in a bucket from which media may be registered."""
    return any(uri.startswith(f"{bucket.rstrip('/')}/") for bucket in config.media_buckets)


def open_object(uri: str) -> tuple[BinaryIO, int | None]:
    """Open an object for reading. Return it and its size in bytes, or None if the size is unknown.

    Raises:
        FileNotFoundError: the object does not exist.
        StorageError: it cannot be read.
    """
    with storage_errors("read", uri):
        try:
            files, name = fsspec.core.url_to_fs(uri)
            return files.open(name, "rb"), files.size(name)
        except (ImportError, ValueError) as error:
            raise StorageError(f"{uri}: cannot be read ({error}); install its driver, e.g. gcsfs") from error


def blocks_of(file: BinaryIO, size: int | None = None) -> Iterator[bytes]:
    """Yield the rest of an open file, or its next `size` bytes, in blocks, then close it."""
    remaining = size
    with file:
        while block := file.read(_BLOCK if remaining is None else min(_BLOCK, remaining)):
            yield block
            remaining = None if remaining is None else remaining - len(block)


def _fetch_object(uri: str, out: Path, max_bytes: int) -> None:
    too_large = ApiError(413, "media_too_large", f"video_uri: {uri}: exceeds the limit of {max_bytes} bytes.")
    try:
        file, size = open_object(uri)
        with file, out.open("wb") as target:
            if size is not None and size > max_bytes:
                raise too_large
            remaining = max_bytes
            for block in blocks_of(file):
                remaining -= len(block)
                if remaining < 0:
                    raise too_large
                target.write(block)
    except (OSError, StorageError) as error:
        raise MediaError("media_not_found", f"{uri}: cannot be fetched ({error})", retryable=True) from error


def _store_file(
    storage: Storage, config: ApiConfig, video_id: str, filename: str, source: Path, kind: str
) -> StoredMedia:
    info = _probe(config, source, filename or "the file")
    match = _SUFFIX.search(Path(filename).suffix)
    name = f"uploads/{video_id}/source{match.group().lower() if match else ''}"
    storage.commit_file(source, name)
    root = str(storage.path) if isinstance(storage, LocalStorage) else storage.root
    return StoredMedia(f"{root}/{name}", kind, info)


def _probe(config: ApiConfig, path: Path, shown: str) -> MediaInfo:
    """Probe a file. Errors name `shown`, which the caller knows, instead of the local path."""
    try:
        return probe_media(path, limits_of(config))
    except MediaError as error:
        message = error.message.replace(str(path), shown)
        raise MediaError(error.code, message, retryable=error.retryable) from error


def _storage_name(storage: Storage, media_uri: str) -> str:
    root = str(storage.path) if isinstance(storage, LocalStorage) else storage.root
    return media_uri.removeprefix(f"{root}/")


def _allowed_file(config: ApiConfig, uri: str) -> Path:
    """Return the path of a file:// URI, with symbolic links resolved. It must be in an allowed folder."""
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise invalid("video_uri: must have the form file:///absolute/path", "video_uri")
    rejected = ApiError(
        422,
        "media_uri_refused",
        "video_uri: the file does not exist in a folder that this service may read (PROMPTREEL_MEDIA_ROOTS).",
        {"errors": [{"path": "video_uri", "message": "not in an allowed folder"}]},
    )
    try:
        path = Path(unquote(parts.path)).resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise rejected from error
    if not path.is_file() or not any(path.is_relative_to(root) for root in config.media_roots):
        raise rejected
    return path
