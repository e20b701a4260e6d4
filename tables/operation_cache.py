"""Results of finished operations by key, so that a resume, a retry or a later run does not pay for them again."""

from __future__ import annotations

import json
from typing import Any

from promptreel.schemas.ids import canonical_json, digest
from promptreel.tables.layout import operation_file
from promptreel.tables.storage import Storage


class OperationCache:
    """A content-addressed store of finished operations. Only successes are cached; failures are retried."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the cached value; None if it is missing or its file is corrupt (the file is then rewritten)."""
        try:
            entry = json.loads(self._storage.read_bytes(operation_file(key)))
            value = entry["value"]
            return dict(value) if entry["checksum"] == digest(value) and entry["key"] == key else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def find(self, key: str, earlier_key: str | None = None) -> dict[str, Any] | None:
        """Return the cached value; None if it is missing.

        Args:
            earlier_key: key under which an earlier version stored the value; a value found there gets the new key too.

        Raises:
            StorageError: storage is unavailable.
        """
        value = self.get(key)
        if value is None and earlier_key is not None:
            value = self.get(earlier_key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: str, value: dict[str, Any]) -> None:
        """Store a value durably.

        Raises:
            StorageError: the value could not be written; the operation must then fail.
        """
        entry = {"key": key, "checksum": digest(value), "value": value}
        self._storage.write_atomic(operation_file(key), canonical_json(entry).encode())
