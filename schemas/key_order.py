"""Order the keys of a value as its JSON schema lists them, so that readers see fields where the prompt has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from promptreel.schemas.errors import PromptError
from promptreel.schemas.references import look_up


def ordered_json(value: Any, json_schema: Mapping[str, Any]) -> str:
    """Render a value as compact JSON text with its keys in the order of the schema.

    >>> ordered_json({"a": 1, "b": 2}, {"properties": {"b": {}, "a": {}}})
    '{"b":2,"a":1}'
    """
    ordered = in_schema_order(value, json_schema, json_schema)
    return json.dumps(ordered, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def in_schema_order(value: Any, schema: Any, root: Mapping[str, Any]) -> Any:
    """Return a JSON value with the keys of its objects in the order of the schema, at all levels.

    Keys that the schema does not name follow in their own order.

    Args:
        schema: the schema of the value.
        root: the schema that local references point into.
    """
    if isinstance(value, list):
        parts = list(_alternatives(schema, root))
        return [in_schema_order(part, _item_schema(parts, at), root) for at, part in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    known: dict[str, list[Any]] = {}
    others: list[Any] = []
    for part in _alternatives(schema, root):
        for name, child in _mapping(part.get("properties")).items():
            known.setdefault(name, []).append(child)
        others.append(part.get("additionalProperties"))
    names = [*(name for name in known if name in value), *(name for name in value if name not in known)]
    return {name: in_schema_order(value[name], {"anyOf": known.get(name, others)}, root) for name in names}


def _item_schema(parts: list[Mapping[str, Any]], at: int) -> dict[str, Any]:
    """Return the schema of an array's item: that of its position in a tuple, or that of all items."""
    found = []
    for part in parts:
        prefix = part.get("prefixItems")
        is_prefix = isinstance(prefix, list) and at < len(prefix)
        found.append(prefix[at] if is_prefix else part.get("items"))  # type: ignore[index]
    return {"anyOf": found}


def _alternatives(schema: Any, root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the schemas that a value may have to match: itself, its reference, and the options of its unions."""
    waiting, seen = [schema], set()
    while waiting:
        part = waiting.pop(0)
        if not isinstance(part, Mapping) or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if "$ref" in part:
            try:
                waiting.append(look_up(part["$ref"], root, ""))
            except PromptError:
                pass  # prompts with such references are rejected; the keys stay as they are
        for union in ("anyOf", "oneOf", "allOf"):
            options = part.get(union)
            waiting += options if isinstance(options, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
