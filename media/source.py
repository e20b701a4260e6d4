"""Where a media file lies: a local path, a file:// address, or whatever fsspec can fetch."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_to_bytes

import fsspec

from promptreel.schemas.errors import MediaError


@contextmanager
def local_media(uri: str) -> Iterator[Path]:
    """A local path of a media file; what lies elsewhere is fetched for the time of the block.

    Raises:
        MediaError: `media_not_found` where it is missing, no regular file, or may not be read.
    """
    if "://" not in uri:
        yield _readable(Path(uri))
        return
    if uri.startswith("file://"):
        with _plainly_named(_readable(Path(os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))))) as path:
            yield path
        return
    with tempfile.TemporaryDirectory(prefix="promptreel-media-") as folder:
        path = Path(folder) / "media"
        try:
            files, name = fsspec.core.url_to_fs(uri)
            files.get_file(name, str(path))
        except (OSError, ImportError, ValueError) as error:
            raise MediaError("media_not_found", f"{uri}: cannot be fetched ({error})", retryable=True) from error
        yield path


@contextmanager
def _plainly_named(path: Path) -> Iterator[Path]:
    """The file itself, or, where its name is not UTF-8, a link to it that every library can handle."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix="promptreel-media-") as folder:
            link = Path(folder) / "media"
            link.symlink_to(path.absolute())
            yield link
    else:
        yield path


def _readable(path: Path) -> Path:
    try:
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaError("media_not_found", f"{path}: does not exist; check the path") from error
    except (OSError, ValueError) as error:
        message = f"{path}: cannot be read ({error}); check the path and its permissions"
        raise MediaError("media_not_found", message) from error
    if not stat.S_ISREG(kind):
        raise MediaError("media_not_found", f"{path}: is no regular file; name a file or a folder of files")
    return path
