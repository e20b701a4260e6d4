"""Parts of container headers that several checks read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

ASF_HEADER: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # GUID that an ASF file starts with

_MAX_BOXES: Final = 100_000


def top_level_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int | None]]:
    """Yield (type, offset, length) of each top-level box of an ISO media file (ISO/IEC 14496-12).

    The last box may end beyond the file. A length of None means that the box extends to the end of the file. Stops at
    trailing data that is not a box.
    """
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            return
        kind, length = header[4:8], int.from_bytes(header[:4], "big")
        if length == 0:
            yield kind, position, None
            return
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8 or not kind.isascii():
            return
        yield kind, position, length
        position += length
