"""Headers of animated WebP and PNG pictures, which are short videos.

ffmpeg declares no duration for them, and the library that probes other files does not read animated WebP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from promptreel.schemas.mediatime import US_PER_SECOND

_MAX_CHUNKS: Final = 1_000_000
_MAX_HEADER_BYTES: Final = 64  # of a chunk, of which the fields at its start are read
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_WEBP_ANIMATION: Final = 0x02  # flag bit of the extended header
_DEFAULT_DELAY_DENOMINATOR: Final = 100  # used if a PNG declares 0


@dataclass(frozen=True, slots=True)
class Animation:
    """The header of an animated picture.

    Attributes:
        demuxer: ffmpeg's demuxer and decoder of the format.
        width, height: size of the canvas in pixels.
        frame_count: number of frames.
        duration_us: sum of the frames' display times in microseconds.
    """

    demuxer: str
    width: int
    height: int
    frame_count: int
    duration_us: int


def read_animation(path: Path) -> Animation | None:
    """Return the header of an animated WebP or PNG; None for every other file.

    Formats: WebP Container Specification (chunks VP8X and ANMF); PNG, third edition (chunks acTL and fcTL).

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(21)
        if is_animated_webp(head):
            return _read_webp(file)
        if head.startswith(_PNG):
            return _read_png(file)
    return None


def is_animated_webp(head: bytes) -> bool:
    """Return whether the first 21 bytes of a file are those of an animated WebP."""
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & _WEBP_ANIMATION)


def _read_webp(file: BinaryIO) -> Animation:
    width = height = frame_count = duration_ms = 0
    for kind, content in _webp_chunks(file):
        if kind == b"VP8X":
            width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (4, 7))
        elif kind == b"ANMF":
            frame_count += 1
            duration_ms += int.from_bytes(content[12:15], "little")
    return Animation("webp_anim", width, height, frame_count, duration_ms * 1000)


def _read_png(file: BinaryIO) -> Animation | None:
    width = height = frame_count = 0
    duration_us = 0.0
    is_animated = False
    for kind, content in _png_chunks(file):
        if kind == b"IHDR":
            width, height = (int.from_bytes(content[at : at + 4], "big") for at in (0, 4))
        elif kind == b"acTL":
            is_animated = True
        elif kind == b"IDAT" and not is_animated:
            return None
        elif kind == b"fcTL":
            frame_count += 1
            numerator, denominator = (int.from_bytes(content[at : at + 2], "big") for at in (20, 22))
            duration_us += US_PER_SECOND * numerator / (denominator or _DEFAULT_DELAY_DENOMINATOR)
    return Animation("apng", width, height, frame_count, round(duration_us)) if is_animated else None


def _webp_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, first bytes of the content) of each chunk."""
    position = 12
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(8 + _MAX_HEADER_BYTES)
        if len(header) < 8:
            return
        length = int.from_bytes(header[4:8], "little")
        yield header[:4], header[8 : 8 + length]
        position += 8 + length + length % 2


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, first bytes of the content) of each chunk."""
    position = len(_PNG)
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(8 + _MAX_HEADER_BYTES)
        if len(header) < 8:
            return
        length = int.from_bytes(header[:4], "big")
        yield header[4:8], header[8 : 8 + length]
        position += 12 + length
