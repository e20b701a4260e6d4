"""From what a user names (files, folders, URLs) to the items of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from promptreel.schemas.errors import TargetError
from promptreel.tables.request import TargetItem

# What is picked out of a folder. A file that is named by itself is taken whatever its ending.
EXTENSIONS: Final[frozenset[str]] = frozenset(
    (
        "mp4 m4v mov mkv webm avi mpg mpeg ts mts m2ts flv wmv 3gp ogv "
        "mp3 wav flac m4a ogg oga opus aac aiff aif wma "
        "jpg jpeg png webp gif bmp tif tiff heic heif avif"
    ).split()
)


def expand_target(named: Sequence[str]) -> list[TargetItem]:
    """The items behind files, folders (read to their depths, hidden ones left out) and URLs, in order of name.

    A named file that does not exist stays an item: the run reports it as failed and finishes the others.

    Raises:
        TargetError: nothing is named, nothing of it exists, or the folders hold no media.
    """
    if not named:
        raise TargetError("name at least one media file or folder")
    items: dict[str, TargetItem] = {}
    for text in named:
        for item in _expand_one(text):
            items.setdefault(item.uri, item)
    if not items:
        raise TargetError(f"no media files in {', '.join(named)}; supported extensions: {' '.join(sorted(EXTENSIONS))}")
    if all("://" not in item.uri and not os.path.exists(item.uri) for item in items.values()):
        raise TargetError(f"{', '.join(named)}: does not exist; check the path")
    return list(items.values())


def _expand_one(text: str) -> list[TargetItem]:
    if "://" in text:
        return [TargetItem(text, text.rstrip("/").rsplit("/", 1)[-1])]
    path = Path(text).expanduser()
    if not os.path.isdir(path):  # unlike Path.is_dir, it takes a path that may not be read for no folder
        return [_item(path, path.name)]
    found = sorted(part for part in path.rglob("*") if _is_media(part, path))
    return [_item(part, part.relative_to(path).as_posix()) for part in found]


def _item(path: Path, name: str) -> TargetItem:
    """A local file. One whose name is not UTF-8, which no table can hold, is named by its percent-encoded URI."""
    text = str(path.absolute())
    uri = text if _is_utf8(text) else path.absolute().as_uri()
    return TargetItem(uri, os.fsencode(name).decode("utf-8", "replace"))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_media(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and path.suffix.lower().lstrip(".") in EXTENSIONS and not os.path.isdir(path)
