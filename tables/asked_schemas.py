"""The schemas that runs have requested answers for with the same instructions and model, in `cache/schemas`.

A later run whose schema shares fields with one of them computes the key of the earlier answer of a segment from it, so
results need no index of their own. Each schema is an immutable file, created before its first result is stored. Its name
starts with the time, so that a listing is in order; writers at the same time may store a schema twice.

    cache/schemas/<xx>/<key of instructions, model and account>/<milliseconds>-<hash of the schema>.json
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from promptreel.schemas.ids import canonical_json, digest
from promptreel.tables.layout import asked_schemas_folder
from promptreel.tables.storage import Storage

MAX_SCHEMAS: Final = 20  # the newest


def other_asked_schemas(storage: Storage, key: str, json_schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the newest schemas under a key except the given one, newest first. Corrupt files are ignored.

    Raises:
        StorageError: storage is unavailable.
    """
    own = digest(json_schema)
    names = {_hash_of(name): name for name in storage.list_names(asked_schemas_folder(key))}
    newest = sorted((name for schema_hash, name in names.items() if schema_hash != own), reverse=True)[:MAX_SCHEMAS]
    found = (_read(storage, f"{asked_schemas_folder(key)}/{name}") for name in newest)
    return [schema for schema in found if schema is not None]


def store_asked_schema(storage: Storage, key: str, json_schema: Mapping[str, Any]) -> None:
    """Store a schema under a key unless it is stored there already.

    Raises:
        StorageError: the file cannot be written.
    """
    folder, schema_hash = asked_schemas_folder(key), digest(json_schema)
    if all(_hash_of(name) != schema_hash for name in storage.list_names(folder)):
        name = f"{folder}/{time.time_ns() // 1_000_000:014d}-{schema_hash}.json"
        storage.create_exclusive(name, canonical_json(json_schema).encode())


def _hash_of(name: str) -> str:
    return name.removesuffix(".json").rpartition("-")[2]


def _read(storage: Storage, name: str) -> dict[str, Any] | None:
    try:
        schema = json.loads(storage.read_bytes(name))
    except (FileNotFoundError, ValueError):
        return None
    return schema if isinstance(schema, dict) and digest(schema) == _hash_of(name) else None
