"""Expand the files, folders and URLs on the command line into the items of a run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptreel.media.formats import EXTENSIONS
from promptreel.media.source import page_uri, split_page
from promptreel.media.tiff_pages import count_pages
from promptreel.schemas.errors import TargetError
from promptreel.schemas.uris import display_name, local_path_of, scheme_of
from promptreel.tables.request import TargetItem


@dataclass(frozen=True)
class ExpandedTarget:
    """The items of a run.

    Attributes:
        skipped: number of other files in the folders, by extension ("" for none), without hidden files.
    """

    items: list[TargetItem]
    skipped: Mapping[str, int]

    def skipped_text(self) -> str | None:
        """Describe the skipped files on one line; None if no file was skipped."""
        if not self.skipped:
            return None
        by_count = sorted(self.skipped.items(), key=lambda pair: (-pair[1], pair[0]))
        kinds = ", ".join(
            f"{f'.{extension}' if extension else 'no extension'} ({count})" for extension, count in by_count[:8]
        )
        count, more = sum(self.skipped.values()), ", ..." if len(by_count) > 8 else ""
        return f"skipped {count} file{'s' * (count != 1)} without a media extension: {kinds}{more}"


def expand_target(named: Sequence[str]) -> ExpandedTarget:
    """Expand files, folders (recursively, without hidden files) and URLs into items, sorted by name within a folder.

    A named file is an item whatever its extension, even if it does not exist: the run then reports it as failed and
    processes the others.

    Raises:
        TargetError: nothing is named, none of it exists, or the folders contain no media.
        InvalidInput: a `file://` URI is not one of this machine.
    """
    if not named:
        raise TargetError("name at least one media file or folder")
    items: dict[str, TargetItem] = {}
    skipped: Counter[str] = Counter()
    for text in named:
        for item in _expand_one(text, skipped):
            items.setdefault(item.uri, item)
    if not items:
        extensions = " ".join(sorted(EXTENSIONS))
        raise TargetError(f"no media files in {', '.join(named)}; supported extensions: {extensions}")
    if all("://" not in item.uri and not os.path.exists(split_page(item.uri)[0]) for item in items.values()):
        raise TargetError(f"{', '.join(named)}: does not exist; check the path")
    return ExpandedTarget(list(items.values()), skipped)


def _expand_one(text: str, skipped: Counter[str]) -> list[TargetItem]:
    scheme = scheme_of(text)
    if scheme not in (None, "file"):
        return [TargetItem(text, display_name(text))]
    path = Path(text).expanduser() if scheme is None else Path(local_path_of(text))
    if not os.path.isdir(path):  # unlike Path.is_dir, treats an unreadable path as a file
        return _items(path, path.name)
    found = []
    for part in sorted(path.rglob("*")):
        if _is_hidden(part, path) or os.path.isdir(part):
            continue
        extension = part.suffix.lower().lstrip(".")
        if extension in EXTENSIONS:
            found += _items(part, part.relative_to(path).as_posix())
        else:
            skipped[extension] += 1
    return found


def _items(path: Path, name: str) -> list[TargetItem]:
    """Build the items of a local file: one, or one for each page of a TIFF."""
    item = _item(path, name)
    try:
        page_count = count_pages(path) if path.suffix.lower() in (".tif", ".tiff") else 1
    except OSError:
        page_count = 1  # the run reports the file
    if page_count < 2:
        return [item]
    pages = range(1, page_count + 1)
    return [TargetItem(page_uri(item.uri, page), page_uri(item.name, page)) for page in pages]


def _item(path: Path, name: str) -> TargetItem:
    """Build the item of a local file. A path that is not UTF-8, which tables require, becomes a percent-encoded URI."""
    text = str(path.absolute())
    uri = text if _is_utf8(text) else path.absolute().as_uri()
    return TargetItem(uri, os.fsencode(name).decode("utf-8", "replace"))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
