"""Detect DRM, which a decoder would report as damage."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final

from promptreel.media.container_headers import ASF_HEADER, top_level_boxes

_MAX_INDEX_BYTES: Final = 64 << 20
_SAMPLE_ENTRY_OFFSET: Final = 12  # from the type of an stsd box to the type of its first entry
# Sample entries of ISO/IEC 14496-12 (encv, enca, enct), of iTunes (drms, drmi) and of Audible (aavd).
_PROTECTED_ENTRIES: Final = frozenset({b"encv", b"enca", b"enct", b"drms", b"drmi", b"p608", b"aavd"})
_ASF_ENCRYPTION: Final = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),  # Content Encryption Object
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),  # Extended Content Encryption Object
)
_ASF_HEADER_BYTES: Final = 256 << 10


def is_protected(path: Path) -> bool:
    """Whether a file's header declares encrypted streams: MP4 and its relatives, and ASF (WMV, WMA).

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(16)
        if head == ASF_HEADER:
            header = head + file.read(_ASF_HEADER_BYTES)
            return any(guid in header for guid in _ASF_ENCRYPTION)
        return head[4:8] == b"ftyp" and _has_protected_entry(_read_index(file))


def _read_index(file: BinaryIO) -> bytes:
    """Return the content of the `moov` box; empty if the file has none."""
    for kind, position, length in top_level_boxes(file):
        if kind == b"moov":
            file.seek(position + 8)
            return file.read(min(length or _MAX_INDEX_BYTES, _MAX_INDEX_BYTES))
    return b""


def _has_protected_entry(index: bytes) -> bool:
    position = index.find(b"stsd")
    while position >= 0:
        entry = position + 4 + _SAMPLE_ENTRY_OFFSET
        if index[entry : entry + 4] in _PROTECTED_ENTRIES:
            return True
        position = index.find(b"stsd", position + 4)
    return False
