"""The subschemas of a JSON schema by keyword: iterate over them with their paths, and rebuild a schema from changed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

DEFINITIONS: Final = ("$defs", "definitions")  # apply to a value only through a $ref
# Apply to the same value as the schema that contains them.
IN_PLACE_LISTS: Final = ("allOf", "anyOf", "oneOf")
IN_PLACE: Final = ("if", "then", "else", "not")
IN_PLACE_NAMED: Final = ("dependentSchemas",)
# Apply to parts of the value: the step of the path of these parts.
_PARTS: Final = {
    "items": "[]",
    "additionalItems": "[]",
    "contains": "[]",
    "unevaluatedItems": "[]",
    "additionalProperties": ".*",
    "unevaluatedProperties": ".*",
    "propertyNames": ".*",
}
# The keywords of objects and arrays that say which parts a value has.
SHAPE: Final = ("properties", *(keyword for keyword in _PARTS if keyword != "propertyNames"), "prefixItems")


def named_subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield (keyword, step of the path, subschema) of each direct subschema.

    The step is `.name` for a property, `[0]` for a position of a tuple, `[]` for all items, `.*` for the values of a
    dictionary, and empty for a subschema of the same value.
    """
    for keyword, value in schema.items():
        if keyword in ("properties", *IN_PLACE_NAMED, *DEFINITIONS):
            for name, part in value.items() if isinstance(value, Mapping) else ():
                step = f".{name}" if keyword == "properties" else f".{keyword}.{name}" if keyword in DEFINITIONS else ""
                yield keyword, step, part
        elif keyword in (*IN_PLACE_LISTS, "prefixItems") or (keyword == "items" and isinstance(value, list)):
            for number, part in enumerate(value) if isinstance(value, list) else ():
                yield keyword, "" if keyword in IN_PLACE_LISTS else f"[{number}]", part
        elif keyword in IN_PLACE or keyword in _PARTS:
            yield keyword, _PARTS.get(keyword, ""), value


def map_subschemas(schema: Mapping[str, Any], change: Callable[[str, str, Any], Any]) -> dict[str, Any]:
    """Return the schema with each direct subschema replaced by `change(keyword, step, subschema)`."""
    changed = iter([change(*named) for named in named_subschemas(schema)])
    mapped: dict[str, Any] = {}
    for keyword, value in schema.items():
        named = keyword in ("properties", *IN_PLACE_NAMED, *DEFINITIONS)
        listed = keyword in (*IN_PLACE_LISTS, "prefixItems", "items") and isinstance(value, list)
        if named and isinstance(value, Mapping):
            mapped[keyword] = {name: next(changed) for name in value}
        elif listed:
            mapped[keyword] = [next(changed) for _ in value]
        elif keyword in IN_PLACE or keyword in _PARTS:
            mapped[keyword] = next(changed)
        else:
            mapped[keyword] = value
    return mapped


def join_path(path: str, step: str) -> str:
    """Append a step to a path: `people` and `[]` give `people[]`, then `.name` gives `people[].name`."""
    return f"{path}{step}".lstrip(".")


def label_of(where: str, path: str) -> str:
    """Name a position of a schema in an error message."""
    return f"{where}: field '{path}'" if path else where
