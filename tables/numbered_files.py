"""Folders of numbered files: manifests, attempts, changed settings, prompt versions."""

from __future__ import annotations

from typing import Final

from promptreel.tables.storage import Storage

_SUFFIX: Final = ".json"


def numbered_name(folder: str, number: int) -> str:
    """Return the name of a file of a folder by its number."""
    return f"{folder}/{number:06d}{_SUFFIX}"


def numbers_in(storage: Storage, folder: str) -> list[int]:
    """Return the numbers of a folder's files in ascending order; empty if it does not exist.

    Files that are being written do not count: their number may go to another writer.
    """
    stems = (name.removesuffix(_SUFFIX) for name in storage.list_names(folder) if name.endswith(_SUFFIX))
    return sorted(int(stem) for stem in stems if stem.isdecimal())
