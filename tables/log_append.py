"""Appending to a log file on a local disk: a line is appended completely or not at all."""

from __future__ import annotations

import os


def append_atomically(descriptor: int, content: bytes) -> None:
    """Append all of the content or nothing. On a full disk the first write is partial and the next one fails; a partial
    line that stayed would also corrupt the line after it."""
    before = os.fstat(descriptor).st_size
    written = 0
    try:
        while written < len(content):
            written += os.write(descriptor, content[written:])
    except OSError:
        if written:
            os.ftruncate(descriptor, before)
        raise
