"""Resolve the local references of a JSON schema, and schemas that only wrap another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from promptreel.schemas.errors import PromptError
from promptreel.schemas.subschemas import IN_PLACE, IN_PLACE_LISTS, IN_PLACE_NAMED, SHAPE, named_subschemas

CIRCULAR: Final = (
    "is circular, and a table has no column for it; write out the levels that you need, or use "
    '{"type": "object"} there to store everything below as JSON'
)
_NULL: Final = {"type": "null"}
_APPLICATORS: Final = ("$ref", *IN_PLACE_LISTS, *IN_PLACE, *IN_PLACE_NAMED)


def resolve(
    schema: Any, root: Mapping[str, Any], label: str, visited: frozenset[int] = frozenset()
) -> tuple[Mapping[str, Any], frozenset[int]]:
    """Replace a `$ref`, an `allOf` of one schema, and a union with null by their target, with the keywords beside them.

    A wrapper stays if it and its target both say which parts a value has, because they cannot be merged.

    Args:
        label: position in the schema, for error messages.
        visited: identities of the schemas that contain this one.

    Returns:
        The schema, and `visited` with the schemas that were replaced.

    Raises:
        PromptError: the subschema is not an object, or its reference does not exist or is circular.
    """
    while True:
        if not isinstance(schema, Mapping):
            raise PromptError(f"{label}: is {schema!r}; it must be a schema object")
        visited |= {id(schema)}
        keyword, target = _target(schema, root, label)
        if keyword is None:
            return schema, visited
        if id(target) in visited:
            raise PromptError(f"{label}: $ref {schema.get('$ref')!r} {CIRCULAR}")
        visited |= {id(target)}
        if not isinstance(target, Mapping):
            raise PromptError(f"{label}: is {target!r}; it must be a schema object")
        merged = merge(target, {name: value for name, value in schema.items() if name != keyword})
        if merged is None:
            return schema, visited
        schema = merged


def merge(target: Mapping[str, Any], beside: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a schema with the keywords that stand beside its `$ref`; None if both describe the parts of a value."""
    if any(name in beside for name in SHAPE) or any(name in beside and name in target for name in _APPLICATORS):
        return None
    return {**target, **beside}


def look_up(reference: Any, root: Mapping[str, Any], label: str) -> Any:
    """Return the part of a schema that a local `$ref` (a JSON pointer, RFC 6901) points to.

    Raises:
        PromptError: the reference is not local, or its target does not exist.
    """
    if reference == "#":
        return root
    if not isinstance(reference, str) or not reference.startswith("#/"):
        raise PromptError(f"{label}: $ref {reference!r} is not local; only '#/...' references are supported")
    part: Any = root
    for key in unquote(reference[2:]).split("/"):
        key = key.replace("~1", "/").replace("~0", "~")
        if isinstance(part, list) and key.isdecimal() and int(key) < len(part):
            part = part[int(key)]
        elif isinstance(part, Mapping) and key in part:
            part = part[key]
        else:
            raise PromptError(f"{label}: $ref {reference!r} points to nothing; define its target in the schema")
    return part


def _target(schema: Mapping[str, Any], root: Mapping[str, Any], label: str) -> tuple[str | None, Any]:
    """Return the keyword of a wrapper, and the schema that it wraps."""
    if "$ref" in schema:
        return "$ref", look_up(schema["$ref"], root, label)
    if isinstance(schema.get("allOf"), list) and len(schema["allOf"]) == 1:
        return "allOf", schema["allOf"][0]
    for keyword in ("anyOf", "oneOf"):
        options = schema.get(keyword)
        options = [option for option in options if option != _NULL] if isinstance(options, list) else []
        if len(options) == 1:
            return keyword, options[0]
    return None, None


def added_parts(schema: Mapping[str, Any], root: Mapping[str, Any], label: str) -> list[str]:
    """Return what the `$ref`, unions and conditions beside an object's properties, or an array's items, add to them.

    Returns:
        Names of properties, or keywords; empty if the schema's own properties and items describe all parts of a value.

    Raises:
        PromptError: a reference does not exist.
    """
    own = schema.get("properties") or {}
    added: dict[str, None] = {}
    pending = _beside(schema, root, label)
    visited = {id(schema)}
    while pending:
        part = pending.pop(0)
        if not isinstance(part, Mapping) or id(part) in visited:
            continue
        visited.add(id(part))
        for keyword, step, below in named_subschemas(part):
            if keyword == "properties":
                if step[1:] not in own or _has_shape(below):
                    added[step[1:]] = None
            elif keyword in SHAPE and below not in (True, False, {}):
                added[keyword] = None
        pending += _beside(part, root, label)
    return list(added)


def _beside(schema: Mapping[str, Any], root: Mapping[str, Any], label: str) -> list[Any]:
    """Return the subschemas that apply to the same value."""
    parts = [part for keyword, step, part in named_subschemas(schema) if not step and keyword != "not"]
    return [*parts, look_up(schema["$ref"], root, label)] if "$ref" in schema else parts


def _has_shape(schema: Any) -> bool:
    """Return whether a schema says which parts a value has, here or in a subschema; a `$ref` may."""
    if not isinstance(schema, Mapping):
        return False
    return (
        "$ref" in schema
        or any(keyword in schema for keyword in SHAPE)
        or any(_has_shape(part) for _, _, part in named_subschemas(schema))
    )
