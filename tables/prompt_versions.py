"""Version numbers of prompts: each new content of a prompt's name gets the next number, in the order of first use.

The numbers are files in the data folder, so they survive the removal of runs. Accounts of a service have their own in the
database of the service.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from promptreel.schemas.ids import digest
from promptreel.schemas.prompt import Prompt
from promptreel.tables import layout
from promptreel.tables.storage import Storage

_SUFFIX: Final = ".json"


@dataclass(frozen=True)
class PromptVersion:
    """One version of a prompt.

    Attributes:
        content_id: id derived from the definition (`Prompt.prompt_id`).
    """

    name: str
    version: int
    content_id: str


def register_version(storage: Storage, prompt: Prompt) -> int:
    """Return the version number of a prompt's content; a new content of this name gets the next number.

    Processes that register at the same time get different numbers for different contents.

    Raises:
        StorageError: the data folder cannot be read or written.
    """
    content_id = prompt.prompt_id
    while True:
        # One listing for both: a version that appears after it takes the number, so that it is read before the next try.
        files = _files(storage, prompt.name)
        for known in _read_versions(storage, prompt.name, files):
            if known.content_id == content_id:
                return known.version
        version = 1 + max((int(file.removesuffix(_SUFFIX)) for file in files), default=0)
        entry = {"name": prompt.name, "version": version, "content_id": content_id, "prompt": prompt.to_dict()}
        content = json.dumps(entry, indent=2, ensure_ascii=False).encode()
        if storage.create_exclusive(f"{_folder(prompt.name)}/{version:06d}{_SUFFIX}", content):
            return version  # otherwise another process has just created it, perhaps with the same content


def versions_of(storage: Storage, name: str) -> list[PromptVersion]:
    """Return the versions of a prompt name, oldest first. A file that is not readable is left out; its number stays
    taken."""
    return list(_read_versions(storage, name, _files(storage, name)))


def _read_versions(storage: Storage, name: str, files: Iterable[str]) -> Iterator[PromptVersion]:
    folder = _folder(name)
    for file in files:
        try:
            stored = json.loads(storage.read_bytes(f"{folder}/{file}"))
            version = PromptVersion(stored["name"], stored["version"], stored["content_id"])
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            continue
        yield version


def _files(storage: Storage, name: str) -> list[str]:
    """List the files of versions, without files that are being written: their number may go to another writer."""
    return [
        file
        for file in storage.list_names(_folder(name))
        if file.endswith(_SUFFIX) and file.removesuffix(_SUFFIX).isdecimal()
    ]


def _folder(name: str) -> str:
    return layout.prompt_folder(digest(name))
