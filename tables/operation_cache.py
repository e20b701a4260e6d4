"""Finished operations by key, durable before they count: a crash, a retry or a later run pays nothing twice."""

from __future__ import annotations

import json
from typing import Any

from promptreel.schemas.ids import canonical_json, digest
from promptreel.tables.layout import operation_file
from promptreel.tables.storage import Storage


class OperationCache:
    """A content-addressed store of finished operations. Only successes are kept: failures are tried again."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def get(self, key: str) -> dict[str, Any] | None:
        """The kept value; None where there is none, or where its file is torn (it is then written again)."""
        try:
            entry = json.loads(self._storage.read_bytes(operation_file(key)))
            value = entry["value"]
            return dict(value) if entry["checksum"] == digest(value) and entry["key"] == key else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, value: dict[str, Any]) -> None:
        """Keeps a value durably.

        Raises:
            StorageError: it could not be written; the operation then counts as failed.
        """
        entry = {"key": key, "checksum": digest(value), "value": value}
        self._storage.write_atomic(operation_file(key), canonical_json(entry).encode())
