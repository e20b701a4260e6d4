"""The pages of a TIFF file, each of which is an image."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO, Final, Literal

_MAX_PAGES: Final = 10_000
_MAX_TAGS: Final = 4096
_NEW_SUBFILE_TYPE: Final = 254
_IS_REDUCED: Final = 1  # a thumbnail of another page
_FIRST_DIRECTORY: Final = 4  # position of its offset in the header

_Order = Literal["little", "big"]


def count_pages(path: Path) -> int:
    """Count the pages of a TIFF file, excluding thumbnails.

    Returns 0 for other files, and for BigTIFF, which the decoder does not support either.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return len(_find_pages(file)[1])


def copy_page(path: Path, page: int, out: Path) -> None:
    """Copy a TIFF file so that one of its pages is the only one; pixels are not decoded.

    Args:
        page: number of the page, from 1.

    Raises:
        ValueError: the file has no such page.
        OSError: the file cannot be read, or the copy cannot be written.
    """
    with path.open("rb") as file:
        order, pages = _find_pages(file)
        if not 1 <= page <= len(pages):
            raise ValueError(f"has {len(pages)} TIFF pages, so page {page} does not exist")
        offset = pages[page - 1]
        file.seek(offset)
        count = int.from_bytes(file.read(2), order)
    shutil.copyfile(path, out)
    with out.open("r+b") as copy:
        copy.seek(_FIRST_DIRECTORY)
        copy.write(offset.to_bytes(4, order))
        copy.seek(offset + 2 + 12 * count)
        copy.write(bytes(4))  # no next directory


def _find_pages(file: BinaryIO) -> tuple[_Order, list[int]]:
    """Return (byte order, offset of each page's directory): TIFF 6.0, section 2, the chain of image file directories."""
    head = file.read(8)
    order: _Order = "little" if head[:2] == b"II" else "big"
    if head[:4] not in (b"II*\x00", b"MM\x00*"):
        return order, []
    pages, visited = [], set[int]()
    offset = int.from_bytes(head[_FIRST_DIRECTORY:8], order)
    while offset and offset not in visited and len(visited) < _MAX_PAGES:
        visited.add(offset)
        is_page, following = _read_directory(file, offset, order)
        if is_page:
            pages.append(offset)
        offset = following
    return order, pages


def _read_directory(file: BinaryIO, offset: int, order: _Order) -> tuple[bool, int]:
    """Return (whether the directory is a separate page, offset of the next one or 0)."""
    file.seek(offset)
    count = int.from_bytes(file.read(2), order)
    if count > _MAX_TAGS:
        return False, 0
    entries = file.read(12 * count)
    is_page = len(entries) == 12 * count > 0
    for at in range(0, len(entries) - 11, 12):
        if int.from_bytes(entries[at : at + 2], order) == _NEW_SUBFILE_TYPE:
            is_page = is_page and not int.from_bytes(entries[at + 8 : at + 12], order) & _IS_REDUCED
    return is_page, int.from_bytes(file.read(4), order)
