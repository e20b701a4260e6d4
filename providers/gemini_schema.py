"""The response schema as the Gemini API reads it: a subset of JSON Schema.

The service reads `$defs` and `$ref` (with nothing beside it), `type`, `enum`, `properties`, `items`, `prefixItems`,
`additionalProperties`, unions and limits. It does not read `const`, `allOf` and `definitions`, which are rewritten here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from promptreel.schemas.field_paths import MEDIA_TIME_FORMAT
from promptreel.schemas.references import look_up, merge
from promptreel.schemas.subschemas import DEFINITIONS, map_subschemas

_NOT_READ: Final = ("$schema", "$id", "discriminator")
_DEFS: Final = "#/$defs/"


def wire_schema(json_schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checked schema in the subset that the service reads; what the subset cannot express stays as it is."""
    definitions = {
        name: part for keyword in reversed(DEFINITIONS) for name, part in json_schema.get(keyword, {}).items()
    }
    root = {keyword: value for keyword, value in json_schema.items() if keyword not in DEFINITIONS}
    wired: dict[str, Any] = _wire(root, json_schema)
    if definitions:
        wired["$defs"] = {name: _wire(part, json_schema) for name, part in definitions.items()}
    return wired


def _wire(schema: Any, root: Mapping[str, Any]) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    reference = _plain_reference(schema, root)
    if reference is not None:
        return {"$ref": reference}
    schema = {
        keyword: value
        for keyword, value in _unwrapped(schema, root).items()
        if keyword not in _NOT_READ and not (keyword == "format" and value == MEDIA_TIME_FORMAT)
    }
    if "const" in schema and "enum" not in schema:
        schema["enum"] = [schema.pop("const")]
    if schema.get("items") is False:
        positions = len(schema.get("prefixItems", ()))
        del schema["items"]
        schema.setdefault("maxItems", positions)
    return map_subschemas(schema, lambda keyword, step, part: _wire(part, root))


def _plain_reference(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str | None:
    """Return the reference of a schema that is nothing else, to a definition of the root."""
    reference = schema.get("$ref")
    if reference is None or len(schema) > 1:
        return None
    if reference.startswith("#/definitions/") and reference.count("/") == 2:
        reference = _DEFS + reference.removeprefix("#/definitions/")
    name = reference.removeprefix(_DEFS)
    is_plain = reference.startswith(_DEFS) and "/" not in name and "~" not in name and "%" not in name
    return reference if is_plain and not _is_ambiguous(name, root) else None


def _is_ambiguous(name: str, root: Mapping[str, Any]) -> bool:
    return all(name in root.get(keyword, {}) for keyword in DEFINITIONS)


def _unwrapped(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put the target of a `$ref` or of an `allOf` of one schema in place, unless the two cannot be merged."""
    while "$ref" in schema or len(schema.get("allOf", ())) == 1:
        keyword = "$ref" if "$ref" in schema else "allOf"
        target = look_up(schema["$ref"], root, "json_schema") if keyword == "$ref" else schema["allOf"][0]
        beside = {name: value for name, value in schema.items() if name != keyword}
        merged = merge(target, beside) if isinstance(target, Mapping) else None
        if merged is None:
            return schema
        schema = merged
    return schema
