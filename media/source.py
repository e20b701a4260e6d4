"""Resolve a media URI to a local file: a local path, a file:// URI, a URL, or any URI that fsspec can fetch.

A URI that ends with `#page=N` is page N of a TIFF file.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import fsspec

from promptreel.media.http_source import SCHEMES, fetch_http
from promptreel.media.tiff_pages import copy_page
from promptreel.schemas.errors import InvalidInput, MediaError
from promptreel.schemas.uris import local_path_of, public_uri, redact, scheme_of

_PAGE: Final = re.compile(r"(?P<uri>.+)#page=(?P<page>\d{1,5})", re.DOTALL)


@contextmanager
def local_media(uri: str) -> Iterator[Path]:
    """Yield a local path of a media file. A remote file is downloaded and removed when the block exits.

    Raises:
        MediaError: `media_not_found` if the file or its page is missing, not a regular file, or not readable. The message
            contains no secret of the URI.
    """
    file_uri, page = split_page(uri)
    if page is None:
        with _local_file(uri) as path:
            yield path
        return
    with _local_file(file_uri) as path, tempfile.TemporaryDirectory(prefix="promptreel-media-") as folder:
        copy = Path(folder) / "page.tif"
        try:
            copy_page(path, page, copy)
        except ValueError as error:
            message = f"{public_uri(uri)}: {redact(str(error), uri)}; check the number of the page"
            raise MediaError("media_not_found", message) from error
        except OSError as error:
            reason = f"the page cannot be copied ({error}); check the free space and the file's permissions"
            message = f"{public_uri(uri)}: {reason}"
            raise MediaError("media_not_found", message, retryable=True) from error
        yield copy


def page_uri(uri: str, page: int) -> str:
    """Return the URI of one page of a TIFF file; pages are numbered from 1."""
    return f"{uri}#page={page}"


def split_page(uri: str) -> tuple[str, int | None]:
    """Return (URI of the file, page) for the URI of a page, otherwise (URI, None), also if a file has such a name."""
    paged = _PAGE.fullmatch(uri)
    return (uri, None) if paged is None or os.path.exists(uri) else (paged["uri"], int(paged["page"]))


@contextmanager
def _local_file(uri: str) -> Iterator[Path]:
    scheme = scheme_of(uri)
    if scheme is None:
        yield _regular_file(Path(uri))
        return
    if scheme == "file":
        try:
            local = local_path_of(uri)
        except InvalidInput as error:
            raise MediaError("media_not_found", str(error)) from error
        with _with_utf8_name(_regular_file(Path(local))) as path:
            yield path
        return
    with tempfile.TemporaryDirectory(prefix="promptreel-media-") as folder:
        path = Path(folder) / "media"
        if scheme in SCHEMES:
            fetch_http(uri, path)
        else:
            _fetch_object(uri, path)
        yield path


def _fetch_object(uri: str, out: Path) -> None:
    try:
        files, name = fsspec.core.url_to_fs(uri)
        files.get_file(name, str(out))
    except Exception as error:  # each driver raises errors of its own
        raise MediaError(
            "media_not_found",
            f"{public_uri(uri)}: cannot be fetched ({redact(str(error), uri)}); check the URI and its permissions",
            retryable=True,
        ) from None  # a traceback of the driver's error would show the URI


@contextmanager
def _with_utf8_name(path: Path) -> Iterator[Path]:
    """Yield the path itself, or a temporary symlink if its name is not UTF-8: not every library can open such names."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix="promptreel-media-") as folder:
            link = Path(folder) / "media"
            link.symlink_to(path.absolute())
            yield link
    else:
        yield path


def _regular_file(path: Path) -> Path:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaError("media_not_found", f"{path}: does not exist; check the path") from error
    except (OSError, ValueError) as error:
        message = f"{path}: cannot be read ({error}); check the path and its permissions"
        raise MediaError("media_not_found", message) from error
    if not stat.S_ISREG(mode):
        raise MediaError(
            "media_not_found", f"{path}: not a regular file; give the path of a file or of a folder of files"
        )
    return path
