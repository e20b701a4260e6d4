"""Canonical field paths of a JSON schema, with their types and values.

A path joins object keys with dots and marks an array of objects with `[]`: `scene.location`, `people[].name`. A leaf
is a scalar, an array of scalars, or a subschema without named properties (stored as JSON).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from promptreel.schemas.errors import PromptError
from promptreel.schemas.references import added_parts, resolve
from promptreel.schemas.subschemas import IN_PLACE_LISTS, join_path, label_of

LeafType = Literal["string", "integer", "number", "boolean", "json"]

SCALAR_TYPES: Final[tuple[str, ...]] = ("string", "integer", "number", "boolean")
_ALL_TYPES: Final[tuple[str, ...]] = (*SCALAR_TYPES, "object", "array", "null")
_MAX_DEPTH: Final = 12  # model services reject deeper schemas; it also bounds the recursion
# A number of this format is a media time. Models answer in seconds from the start of the segment; tables store seconds
# from the start of the item.
MEDIA_TIME_FORMAT: Final = "media-time"
_FORBIDDEN: Final = ".[]"
RESERVED_NAMES: Final[frozenset[str]] = frozenset({"transcription", "metadata_text"})


@dataclass(frozen=True, slots=True)
class LeafField:
    """One leaf of a schema.

    Attributes:
        path: canonical path, e.g. `people[].name`.
        type: type of one value; "json" if no scalar type applies.
        list_depth: number of lists around one value: `tags` 1, `people[].name` 1, `people[].tags` 2.
        schema: JSON schema of the leaf.
    """

    path: str
    type: LeafType
    list_depth: int
    schema: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Last key of the path, without brackets."""
        return self.path.rsplit(".", 1)[-1].removesuffix("[]")


@dataclass(frozen=True, slots=True)
class Node:
    """A subschema with its references resolved: an object with named fields, an array, or a leaf."""

    kind: Literal["object", "array", "leaf"]
    type: LeafType = "json"
    fields: tuple[tuple[str, Node], ...] = ()
    items: Node | None = None
    schema: Mapping[str, Any] | None = None


def parse_schema(json_schema: Mapping[str, Any], where: str = "json_schema") -> Node:
    """Parse a schema whose root is an object into a tree of nodes.

    A value whose parts have no fixed columns is one leaf of type "json": a union, a tuple, a dictionary, an object with
    fields in a union.

    Raises:
        PromptError: the root is not an object with all its fields, a type is unknown, a field name is reserved or not
            allowed in a path, a reference does not exist or is circular, or the schema is nested too deeply; the message
            names the field.
    """
    if not isinstance(json_schema, Mapping):
        raise PromptError(f"{where}: must be a JSON object, not {type(json_schema).__name__}")
    schema, _ = resolve(json_schema, json_schema, where)
    if "type" not in schema and any(keyword in schema for keyword in IN_PLACE_LISTS):
        raise PromptError(f"{where}: the root is a union or an allOf; put it under a property of an object")
    if _single_type(schema, where) != "object":
        raise PromptError(f'{where}: the root must have "type": "object", not {schema.get("type")!r}')
    return _parse(json_schema, _Position(json_schema, "", where, 0, frozenset()))


def leaf_fields(node: Node) -> tuple[LeafField, ...]:
    """Return all leaves below a node, in schema order."""
    return tuple(_leaves(node, "", 0))


def _leaves(node: Node, path: str, depth: int) -> Iterator[LeafField]:
    if node.kind == "object":
        for name, child in node.fields:
            yield from _leaves(child, f"{path}.{name}" if path else name, depth)
    elif node.kind == "array":
        items = node.items
        assert items is not None
        yield from _leaves(items, f"{path}[]" if items.kind == "object" else path, depth + 1)
    else:
        yield LeafField(path, node.type, depth, node.schema or {})


@dataclass(frozen=True, slots=True)
class _Position:
    """A position in a schema; `visited` are the identities of the schemas around it."""

    root: Mapping[str, Any]
    path: str
    where: str
    depth: int
    visited: frozenset[int]

    @property
    def label(self) -> str:
        return label_of(self.where, self.path)

    def below(self, step: str, visited: frozenset[int]) -> _Position:
        return _Position(self.root, join_path(self.path, step), self.where, self.depth + 1, visited)


def _parse(schema: Any, at: _Position) -> Node:
    if at.depth > _MAX_DEPTH:
        raise PromptError(f"{at.label} is nested deeper than {_MAX_DEPTH} levels; flatten the schema")
    schema, visited = resolve(schema, at.root, at.label, at.visited)
    kind = _single_type(schema, at.label)
    if kind == "object":
        return _parse_object(schema, at, visited)
    if kind == "array":
        items = schema.get("items")
        if not items or "prefixItems" in schema or added_parts(schema, at.root, at.label):
            return Node("leaf", "json", schema=schema)
        return Node("array", items=_parse(items, at.below("[]", visited)), schema=schema)
    return Node("leaf", _scalar_type(schema, at, visited), schema=schema)  # type: ignore[arg-type]


def _parse_object(schema: Mapping[str, Any], at: _Position, visited: frozenset[int]) -> Node:
    properties = schema.get("properties") or {}
    if not isinstance(properties, Mapping):
        raise PromptError(f"{at.label}: 'properties' must be an object")
    added = added_parts(schema, at.root, at.label)
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        if properties and schema.get(keyword) and isinstance(schema[keyword], Mapping):
            added.append(keyword)
    if not at.path and added:
        raise PromptError(
            f"{at.where}: the root gets {added[0]!r} besides its properties, and a table has no column for it; list all "
            "fields of the root in properties, and put a union or dictionary under a property of its own"
        )
    if not properties or added:
        return Node("object", schema=schema) if not at.path else Node("leaf", "json", schema=schema)
    fields = []
    for name, child in properties.items():
        below = at.below(f".{name}", visited)
        _check_name(name, below.path, at.where, is_root=not at.path)
        fields.append((name, _parse(child, below)))
    _check_required(schema.get("required"), properties, at.label)
    return Node("object", fields=tuple(fields), schema=schema)


def _check_required(required: Any, properties: Mapping[str, Any], label: str) -> None:
    """Reject required names that are not properties: a model service only fills properties."""
    unknown = [name for name in required if name not in properties] if isinstance(required, list) else []
    if unknown:
        raise PromptError(
            f"{label}: 'required' contains {unknown[0]!r}, which is not a property; use {', '.join(properties)}"
        )


def _scalar_type(schema: Mapping[str, Any], at: _Position, visited: frozenset[int]) -> str:
    """Return the type of a resolved schema's scalars; for a union, the type that all branches have; otherwise "json"."""
    kind = _single_type(schema, at.label)
    if kind == "integer" and schema.get("format") == MEDIA_TIME_FORMAT:
        return "number"  # whole seconds of a segment are rarely whole seconds of its item
    if kind in SCALAR_TYPES:
        return kind
    unions = [schema[keyword] for keyword in ("anyOf", "oneOf") if isinstance(schema.get(keyword), list)]
    if len(unions) != 1 or "type" in schema or "$ref" in schema or at.depth > _MAX_DEPTH:
        return "json"
    branches = [resolve(part, at.root, at.label, visited) for part in unions[0] if part != {"type": "null"}]
    return _common_type({_scalar_type(branch, at.below("", visited), inner) for branch, inner in branches})


def _common_type(types: set[str]) -> str:
    if types == {"integer", "number"}:
        return "number"
    return types.pop() if len(types) == 1 else "json"


def _single_type(schema: Mapping[str, Any], label: str) -> str:
    """Return the single type of a subschema, ignoring null; "json" if it has none or several."""
    declared = schema.get("type")
    if declared is None:
        if "properties" in schema and not any(keyword in schema for keyword in ("$ref", *IN_PLACE_LISTS)):
            return "object"
        return _type_of_values(schema["enum"]) if "enum" in schema else "json"
    names = declared if isinstance(declared, list) else [declared]
    for name in names:
        if name not in _ALL_TYPES:
            raise PromptError(f"{label} has the unknown type {name!r}; use one of {', '.join(_ALL_TYPES)}")
    return _common_type({str(name) for name in names if name != "null"})


def _type_of_values(values: Any) -> str:
    if isinstance(values, list) and values and all(isinstance(value, str) or value is None for value in values):
        return "string"
    return "json"


def _check_name(name: str, path: str, where: str, *, is_root: bool) -> None:
    if not name.strip() or any(char in _FORBIDDEN for char in name):
        raise PromptError(
            f"{where}: field name {name!r} (at '{path}') must not be blank or contain '.', '[' or ']'; rename it"
        )
    if name.startswith("_") or (is_root and name in RESERVED_NAMES):
        raise PromptError(
            f"{where}: field name {name!r} is reserved (transcription, metadata_text, and names that start with '_'); "
            "rename it"
        )


def values_at(value: Any, path: str) -> list[Any]:
    """Return all scalar values at a canonical path: lists are flattened, missing and null values skipped.

    >>> values_at({"people": [{"name": "Ada"}, {}]}, "people[].name")
    ['Ada']
    """
    values = [value]
    for key in path.split("."):
        name = key.removesuffix("[]")
        values = [part[name] for part in _flatten(values) if isinstance(part, Mapping) and name in part]
    return [part for part in _flatten(values) if part is not None]


def _flatten(values: list[Any]) -> list[Any]:
    flat = []
    for value in values:
        flat.extend(_flatten(value) if isinstance(value, list) else [value])
    return flat


def render_text(metadata: Mapping[str, Any], leaves: tuple[LeafField, ...]) -> str:
    """Render a `path: value` line for each leaf that has a value, in schema order, for search and for people.

    >>> render_text({"tags": ["a", "b"]}, (LeafField("tags", "string", 1, {}),))
    'tags: a, b'
    """
    lines = []
    for leaf in leaves:
        values = values_at(metadata, leaf.path)
        if values:
            lines.append(f"{leaf.path}: {', '.join(_plain(value) for value in values)}")
    if not leaves:
        lines = [f"{name}: {_plain(value)}" for name, value in metadata.items() if value is not None]
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    return json.dumps(value, ensure_ascii=False)
