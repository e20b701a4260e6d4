"""A JSON schema of the OpenAPI description as lines of a table: path, type, and what it means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_ROWS: Final = 400
_MAX_DEPTH: Final = 8
_MAX_DEFAULT_CHARS: Final = 80
_REFERENCE: Final = "#/components/schemas/"
_BOUNDS: Final = (
    ("minimum", "≥"),
    ("ge", "≥"),
    ("maximum", "≤"),
    ("le", "≤"),
    ("exclusiveMinimum", ">"),
    ("exclusiveMaximum", "<"),
)
_LENGTHS: Final = (("minLength", "maxLength", "characters"), ("minItems", "maxItems", "entries"))

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SchemaRow:
    """One field of a body, or one parameter.

    Attributes:
        path: e.g. `target.index_id`, or `data[].video_id` of an array's elements.
        kind: its type and bounds.
        text: its description and default.
    """

    path: str
    kind: str
    is_required: bool
    text: str


def schema_rows(schema: Schema, schemas: Mapping[str, Schema]) -> tuple[SchemaRow, ...]:
    """Return the fields of a schema, those of its parts after each, up to `MAX_ROWS`.

    Args:
        schemas: the components that references name.
    """
    rows: list[SchemaRow] = []
    for row in _Walk(schemas).fields(schema, "", ()):
        if len(rows) == MAX_ROWS:
            break
        rows.append(row)
    return tuple(rows)


def row_of(path: str, schema: Schema, schemas: Mapping[str, Schema], *, is_required: bool, text: str = "") -> SchemaRow:
    """Return one value, e.g. a parameter, as a row."""
    return SchemaRow(path, _Walk(schemas).kind(schema), is_required, _text(schema, text))


def described(text: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into its text and the descriptions of its attributes by name.

    >>> described("A run.\\n\\nAttributes:\\n    name, tags: labels\\n        of it.")
    ('A run.', {'name': 'labels of it.', 'tags': 'labels of it.'})
    """
    before, _, section = text.partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        entry = re.match(r" {4}([A-Za-z_][\w, ]*): (.*)", line)
        if entry:
            names = [name.strip() for name in entry[1].split(",")]
            found |= dict.fromkeys(names, entry[2].strip())
        elif line.startswith("     "):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            names = []
    return " ".join(before.split()), found


@dataclass(frozen=True, slots=True)
class _Walk:
    schemas: Mapping[str, Schema]

    def fields(self, schema: Schema, prefix: str, inside: tuple[str, ...]) -> Iterator[SchemaRow]:
        """Yield the fields of a schema below a path. `inside` has the names of the components around them."""
        schema, inside = self._resolved(schema, inside)
        if len(inside) > _MAX_DEPTH:
            return
        texts = described(str(schema.get("description", "")))[1]
        required = schema.get("required", ())
        for name, part in schema.get("properties", {}).items():
            path = f"{prefix}{name}"
            yield SchemaRow(path, self.kind(part), name in required, _text(part, texts.get(name, "")))
            yield from self._parts(part, path, inside)
        if not prefix and "properties" not in schema:
            yield from self._parts(schema, "", inside)

    def _parts(self, schema: Schema, path: str, inside: tuple[str, ...]) -> Iterator[SchemaRow]:
        """Yield the fields inside of a value: of an object, of the elements of an array, and of each alternative."""
        if (name := _referenced(schema)) is not None:
            if name not in inside:
                yield from self.fields(schema, f"{path}." if path else "", inside)
        elif "properties" in schema:
            yield from self.fields(schema, f"{path}." if path else "", inside)
        elif isinstance(schema.get("items"), Mapping):
            yield from self._parts(schema["items"], f"{path}[]", inside)
        elif isinstance(schema.get("additionalProperties"), Mapping):
            yield from self._parts(schema["additionalProperties"], f"{path}.*" if path else "*", inside)
        alternatives = [part for part in _alternatives(schema) if part.get("type") != "null"]
        for part in alternatives:
            fields = list(self._parts(part, path, inside))
            if fields and len(alternatives) > 1:
                about = self._resolved(part, ())[0].get("description", "")
                yield SchemaRow(path, self.kind(part), False, described(str(about))[0])
            yield from fields

    def kind(self, schema: Schema) -> str:
        """Return the type of a value in words."""
        if (name := _referenced(schema)) is not None:
            found = self.schemas.get(name, {})
            return self.kind(found) if "enum" in found else name
        if "const" in schema:
            return json.dumps(schema["const"])
        if "enum" in schema:
            return ", ".join(json.dumps(value) for value in schema["enum"])
        if alternatives := _alternatives(schema):
            return " or ".join(dict.fromkeys(self.kind(part) for part in alternatives))
        if schema.get("type") == "array":
            return f"array of {self.kind(schema.get('items', {}))}{_bounds(schema)}"
        if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
            return f"object of {self.kind(schema['additionalProperties'])}"
        if schema.get("format") == "binary" or "contentMediaType" in schema:
            return "file"
        return f"{schema.get('type', 'any value')}{_bounds(schema)}"

    def _resolved(self, schema: Schema, inside: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
        name = _referenced(schema)
        return (schema, inside) if name is None else (self.schemas.get(name, {}), (*inside, name))


def _alternatives(schema: Schema) -> tuple[Schema, ...]:
    return (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ()))


def _referenced(schema: Schema) -> str | None:
    reference = schema.get("$ref")
    return reference.removeprefix(_REFERENCE) if isinstance(reference, str) else None


def _bounds(schema: Schema) -> str:
    found = [f"{sign} {schema[name]}" for name, sign in _BOUNDS if name in schema]
    for least, most, unit in _LENGTHS:
        if least in schema or most in schema:
            low, high = schema.get(least, 0), schema.get(most)
            found.append(
                f"{low} to {high} {unit}" if high is not None else "not empty" if low == 1 else f"≥ {low} {unit}"
            )
    return f" ({', '.join(found)})" if found else ""


def _text(schema: Schema, text: str) -> str:
    """Return the description of a value and its default, also that of a value that may be null."""
    parts = [schema, *schema.get("anyOf", ())]
    own = next((str(part["description"]) for part in parts if "description" in part and "$ref" not in part), "")
    default = next((part["default"] for part in parts if part.get("default") is not None), None)
    shown = "" if default is None else f"Default: {json.dumps(default, ensure_ascii=False)[:_MAX_DEFAULT_CHARS]}."
    return " ".join(filter(None, (described(own)[0] or text, shown)))
