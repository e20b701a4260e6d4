"""The number of pages of a TIFF file."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final, Literal

_MAX_PAGES: Final = 10_000
_MAX_TAGS: Final = 4096
_NEW_SUBFILE_TYPE: Final = 254
_IS_REDUCED: Final = 1  # a thumbnail of another page


def count_pages(path: Path) -> int:
    """Count the pages of a TIFF (TIFF 6.0, section 2: the chain of image file directories), without thumbnails.

    Returns 0 for a file that is no TIFF, and for a BigTIFF, which the decoder does not read either.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(8)
        order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        if head[:4] not in (b"II*\x00", b"MM\x00*"):
            return 0
        pages, visited = 0, set[int]()
        offset = int.from_bytes(head[4:8], order)
        while offset and offset not in visited and len(visited) < _MAX_PAGES:
            visited.add(offset)
            is_page, offset = _read_directory(file, offset, order)
            pages += is_page
        return pages


def _read_directory(file: BinaryIO, offset: int, order: Literal["little", "big"]) -> tuple[bool, int]:
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
