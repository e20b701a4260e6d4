"""Detect files that end before their declared size, which decoders do not report."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from promptreel.media.container_headers import ASF_HEADER, top_level_boxes

_MAX_CHUNKS: Final = 100_000
_UNKNOWN_32: Final = 0xFFFFFFFF
_EBML: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT_ID: Final = b"\x18\x53\x80\x67"
_ASF_FILE_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER_BYTES: Final = 64 << 10
_MIN_CUT_BYTES: Final = 16  # writers are off by less than this in the sizes that they declare


def is_cut_off(path: Path) -> bool:
    """Whether a file is shorter than the sizes in its headers, or lacks its end marker.

    Knows MP4 and its relatives (ISO/IEC 14496-12, boxes), Matroska and WebM (RFC 8794, the size of the segment), RIFF
    (WAV, AVI, WebP), Ogg (RFC 3533, the end-of-stream flag), ASF (the file size in its header), CAF (the size of its data),
    GIF and PNG (end markers). False for everything else.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(16)
        size = os.fstat(file.fileno()).st_size
        check = _check_for(head)
        return check is not None and check(file, size)


def _check_for(head: bytes) -> Callable[[BinaryIO, int], bool] | None:
    if head[4:8] in (b"ftyp", b"moov", b"mdat"):
        return _boxes_are_cut
    if head.startswith(_EBML):
        return _segment_is_cut
    if head.startswith(b"RIFF"):
        return _riff_is_cut
    if head.startswith(b"OggS"):
        return _ogg_is_cut
    if head == ASF_HEADER:
        return _asf_is_cut
    if head.startswith(b"caff"):
        return _caf_is_cut
    if head.startswith(b"GIF8"):
        return lambda file, size: not _tail(file, size, 1024).rstrip(b"\0").endswith(b";")
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return lambda file, size: b"IEND" not in _tail(file, size, 4096)
    return None


def _boxes_are_cut(file: BinaryIO, size: int) -> bool:
    ends = (position + length for _, position, length in top_level_boxes(file) if length is not None)
    return any(end > size + _MIN_CUT_BYTES for end in ends)


def _segment_is_cut(file: BinaryIO, size: int) -> bool:
    file.seek(4)
    header_size, _ = _read_vint(file)
    if header_size is None:
        return False
    position = file.tell() + header_size
    file.seek(position)
    if file.read(4) != _SEGMENT_ID:
        return False
    segment_size, is_unknown = _read_vint(file)
    return segment_size is not None and not is_unknown and file.tell() + segment_size > size + _MIN_CUT_BYTES


def _read_vint(file: BinaryIO) -> tuple[int | None, bool]:
    """Return (value, whether it means "unknown") of an EBML variable-length size."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None, False
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    value = int.from_bytes(bytes([first[0] & ((1 << (8 - length)) - 1)]) + rest, "big")
    return value, value == (1 << (7 * length)) - 1


def _riff_is_cut(file: BinaryIO, size: int) -> bool:
    file.seek(4)
    declared = int.from_bytes(file.read(4), "little")
    return 0 < declared < _UNKNOWN_32 - 8 and declared + 8 > size + _MIN_CUT_BYTES


def _ogg_is_cut(file: BinaryIO, size: int) -> bool:
    tail = _tail(file, size, 128 * 1024)  # two pages of the largest size
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return True
    table = tail[page + 27 : page + 27 + tail[page + 26]]
    is_complete = len(tail) >= page + 27 + len(table) + sum(table) and len(table) == tail[page + 26]
    is_end_of_stream = bool(tail[page + 5] & 0x04)
    return not (is_complete and is_end_of_stream)


def _asf_is_cut(file: BinaryIO, size: int) -> bool:
    file.seek(0)
    header = file.read(_ASF_HEADER_BYTES)
    properties = header.find(_ASF_FILE_PROPERTIES)
    if properties < 0:
        return False
    declared = int.from_bytes(header[properties + 40 : properties + 48], "little")  # after GUID, size and file ID
    return declared > size + _MIN_CUT_BYTES


def _caf_is_cut(file: BinaryIO, size: int) -> bool:
    position = 8
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(12)
        if len(header) < 12:
            return position > size
        length = int.from_bytes(header[4:], "big", signed=True)
        if length < 0:
            return False  # the data extends to the end of the file
        position += 12 + length
    return False


def _tail(file: BinaryIO, size: int, length: int) -> bytes:
    file.seek(max(0, size - length))
    return file.read(length)
