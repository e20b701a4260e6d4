"""Convert schemas of common dialects to JSON Schema 2020-12: OpenAPI 3.0, the Gemini API's own, and draft 7 (zod).

| as people write it | as it is stored |
|---|---|
| `"type": "STRING"` | `"type": "string"` |
| `"nullable": true` | the type, or a union, with `null` |
| `"maxItems": "3"` | `"maxItems": 3` |
| `const` or `enum` without type | with the type of its values, if they have one |
| `properties` without type | with `"type": "object"` |
| `"items": [...]`, `additionalItems` | `prefixItems`, `items` |
| `"format": "media-time"` beside a union | in the numbers of the union |
| a root `$ref` or a root `allOf` of one schema | its target, in place |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from promptreel.schemas.errors import PromptError
from promptreel.schemas.field_paths import MEDIA_TIME_FORMAT
from promptreel.schemas.references import resolve
from promptreel.schemas.subschemas import DEFINITIONS, IN_PLACE, join_path, label_of, map_subschemas

_TYPES: Final = ("string", "integer", "number", "boolean", "object", "array", "null")
_LIMITS: Final = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_REFERRING: Final = ("$ref", "allOf", "anyOf", "oneOf")
# Describe a value, or its definitions, and stay outside when the rest moves into a union with null.
_ANNOTATIONS: Final = ("title", "description", "default", "examples", "deprecated", "$comment", *DEFINITIONS)


def normalize_schema(json_schema: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a schema in JSON Schema 2020-12; one that is so already is returned as an equal copy.

    Raises:
        PromptError: `nullable` is neither true nor false.
    """
    normalized = _normalize(json_schema, "", "", where)
    assert isinstance(normalized, dict)
    return normalized


def inline_root(json_schema: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a checked schema with its root's `$ref` (or `allOf` of one schema) replaced by the target."""
    return dict(resolve(json_schema, json_schema, where)[0])


def _normalize(schema: Any, keyword: str, path: str, where: str) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    schema = map_subschemas(schema, lambda inner, step, part: _normalize(part, inner, join_path(path, step), where))
    _lower_types(schema)
    _read_limits(schema)
    _rename_tuple(schema)
    _add_type(schema, may_add_object=keyword not in (*IN_PLACE, "contains", "dependentSchemas", "propertyNames"))
    _place_time_format(schema)
    nullable = schema.pop("nullable", False)
    if not isinstance(nullable, bool):
        raise PromptError(f"{label_of(where, path)}: 'nullable' is {nullable!r}; it must be true or false")
    # The answer itself is always an object, so the root ignores `nullable`.
    return _with_null(schema) if nullable and keyword else schema


def _lower_types(schema: dict[str, Any]) -> None:
    def lower(name: Any) -> Any:
        return name.lower() if isinstance(name, str) and name.isupper() and name.lower() in _TYPES else name

    if "type" in schema:
        names = schema["type"]
        schema["type"] = [lower(name) for name in names] if isinstance(names, list) else lower(names)


def _read_limits(schema: dict[str, Any]) -> None:
    """Read limits that are text: JSON encodings of the Gemini API's schemas write 64-bit integers this way."""
    for keyword in _LIMITS:
        limit = schema.get(keyword)
        if isinstance(limit, str) and limit.isdecimal() and limit.isascii():
            schema[keyword] = int(limit)


def _rename_tuple(schema: dict[str, Any]) -> None:
    rest = schema.pop("additionalItems", None)
    if isinstance(schema.get("items"), list) and "prefixItems" not in schema:
        schema["prefixItems"] = schema.pop("items")
        if rest is not None:
            schema["items"] = rest


def _add_type(schema: dict[str, Any], *, may_add_object: bool) -> None:
    if "type" in schema or any(keyword in schema for keyword in _REFERRING):
        return
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list) and values:
        types = _types_of(values)
        if types is not None:
            schema["type"] = types
    elif "properties" in schema and may_add_object:
        schema["type"] = "object"


def _types_of(values: list[Any]) -> str | list[str] | None:
    """Return the type of scalars, with null if it is among them; None if they have several types."""
    names = {_type_of(value) for value in values}
    if "number" in names:
        names.discard("integer")
    others = sorted(names - {"null"})
    if len(others) > 1 or not names <= set(_TYPES) - {"object", "array"}:
        return None
    if not others:
        return "null"
    return [others[0], "null"] if "null" in names else others[0]


def _type_of(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return kinds.get(type(value), "object")


def _place_time_format(schema: dict[str, Any]) -> None:
    """Move the format of a union to its numbers: pydantic writes what describes `float | None` beside the union."""
    if schema.get("format") != MEDIA_TIME_FORMAT or "type" in schema:
        return
    for keyword in ("anyOf", "oneOf"):
        options = schema.get(keyword)
        if isinstance(options, list) and any(_is_number(option) for option in options):
            schema[keyword] = [
                {**option, "format": MEDIA_TIME_FORMAT} if _is_number(option) else option for option in options
            ]
            schema.pop("format", None)


def _is_number(option: Any) -> bool:
    types = option.get("type") if isinstance(option, Mapping) else None
    names = types if isinstance(types, list) else [types]
    return bool({"number", "integer"} & {name for name in names if isinstance(name, str)}) and "format" not in option


def _with_null(schema: dict[str, Any]) -> dict[str, Any]:
    null = {"type": "null"}
    if "type" not in schema and isinstance(schema.get("anyOf"), list) and not {"$ref", "allOf", "oneOf"} & set(schema):
        has_null = null in schema["anyOf"]
        return schema if has_null else {**schema, "anyOf": [*schema["anyOf"], null]}
    if any(keyword in schema for keyword in (*_REFERRING, *IN_PLACE)):
        inner = {keyword: value for keyword, value in schema.items() if keyword not in _ANNOTATIONS}
        outer = {keyword: value for keyword, value in schema.items() if keyword in _ANNOTATIONS}
        return {**outer, "anyOf": [inner, null]}
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        schema["type"] = names if "null" in names else [*names, "null"]
    if "const" in schema and schema["const"] is not None:
        schema["enum"] = [schema.pop("const"), None]
    elif isinstance(schema.get("enum"), list) and schema["enum"] and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    return schema
