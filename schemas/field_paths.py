"""Canonical field paths of a JSON schema, with their types and values.

A path joins object keys with dots and marks an array of objects with `[]`: `scene.location`, `people[].name`. A leaf
is a scalar, an array of scalars, or a subschema without named properties (stored as JSON).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import unquote

from promptreel.schemas.errors import PromptError

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

    Raises:
        PromptError: the root is not an object, a type is unknown, a field name is reserved or not allowed in a path, a
            reference cannot be resolved, or the schema is nested too deeply; the message names the field.
    """
    if not isinstance(json_schema, Mapping):
        raise PromptError(f"{where}: must be a JSON object, not {type(json_schema).__name__}")
    if json_schema.get("type") != "object":
        raise PromptError(f'{where}: the root must have "type": "object", not {json_schema.get("type")!r}')
    return _parse(json_schema, json_schema, "", where, 0)


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


def _parse(schema: Mapping[str, Any], root: Mapping[str, Any], path: str, where: str, depth: int) -> Node:
    label = f"{where}: field '{path}'" if path else where
    if depth > _MAX_DEPTH:
        raise PromptError(f"{label} is nested deeper than {_MAX_DEPTH} levels; flatten the schema")
    schema = resolve(schema, root, label)
    kind = _single_type(schema, label)
    if kind == "object":
        properties = schema.get("properties") or {}
        if not isinstance(properties, Mapping):
            raise PromptError(f"{label}: 'properties' must be an object")
        if not properties:
            return Node("object", schema=schema) if not path else Node("leaf", "json", schema=schema)
        fields = []
        for name, child in properties.items():
            _check_name(name, f"{path}.{name}" if path else name, where, is_root=not path)
            fields.append((name, _parse(child, root, f"{path}.{name}" if path else name, where, depth + 1)))
        _check_required(schema.get("required"), properties, label)
        return Node("object", fields=tuple(fields), schema=schema)
    if kind == "array":
        items = schema.get("items")
        if not items:
            return Node("leaf", "json", schema=schema)
        return Node("array", items=_parse(items, root, f"{path}[]", where, depth + 1), schema=schema)
    _check_values(schema, kind, label)
    if kind in SCALAR_TYPES:
        return Node("leaf", kind, schema=schema)  # type: ignore[arg-type]
    return Node("leaf", "json", schema=schema)


def _check_required(required: Any, properties: Mapping[str, Any], label: str) -> None:
    """Reject required names that are not properties: a model service only fills properties."""
    unknown = [name for name in required if name not in properties] if isinstance(required, list) else []
    if unknown:
        raise PromptError(
            f"{label}: 'required' contains {unknown[0]!r}, which is not a property; use {', '.join(properties)}"
        )


def _check_values(schema: Mapping[str, Any], kind: str, label: str) -> None:
    if schema.get("enum") == []:
        raise PromptError(f"{label}: 'enum' is empty, so no value is valid; list the values or remove it")
    if schema.get("format") == MEDIA_TIME_FORMAT and kind not in ("number", "integer"):
        raise PromptError(f'{label}: "format": "{MEDIA_TIME_FORMAT}" requires the type number, not {kind}')


def resolve(schema: Any, root: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """Resolve local `$ref`s and unwrap a union with null.

    Raises:
        PromptError: the subschema is not an object, or its reference does not exist or is circular.
    """
    for _ in range(_MAX_DEPTH):
        if not isinstance(schema, Mapping):
            raise PromptError(f"{label}: is {schema!r}; it must be a schema object")
        if "$ref" in schema:
            schema = look_up(schema["$ref"], root, label)
            continue
        options = schema.get("anyOf", schema.get("oneOf"))
        options = [option for option in options if option != {"type": "null"}] if isinstance(options, list) else []
        if "type" not in schema and len(options) == 1:
            schema = options[0]
            continue
        return schema
    raise PromptError(f"{label}: its $ref is circular")


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


def _single_type(schema: Mapping[str, Any], label: str) -> str:
    """Return the single type of a subschema, ignoring null; "json" if it has none or several."""
    declared = schema.get("type")
    if declared is None:
        if "properties" in schema:
            return "object"
        if "enum" in schema:
            return _type_of_values(schema["enum"])
        return "json"
    names = declared if isinstance(declared, list) else [declared]
    for name in names:
        if name not in _ALL_TYPES:
            raise PromptError(f"{label} has the unknown type {name!r}; use one of {', '.join(_ALL_TYPES)}")
    non_null = [name for name in names if name != "null"]
    return str(non_null[0]) if len(non_null) == 1 else "json"


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
