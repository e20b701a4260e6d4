"""Media times in an answer: which of its numbers are times, and times written as text.

A number is a time if a part of the schema that it fits has `"format": "media-time"`. This is how JSON Schema collects
annotations: of a union, every branch that fits the value counts, in any order.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import jsonschema
from jsonschema.validators import extend
from referencing import Registry

from promptreel.schemas.errors import PromptError
from promptreel.schemas.field_paths import MEDIA_TIME_FORMAT
from promptreel.schemas.ids import canonical_json
from promptreel.schemas.references import look_up
from promptreel.schemas.subschemas import DEFINITIONS, join_path, label_of, named_subschemas
from promptreel.schemas.validation import validator_of

# Keys and list positions from the root of an answer to a value.
Location = tuple[str | int, ...]

_CLOCK: Final = re.compile(r"(?:(?:([0-9]{1,4}):)?([0-9]{1,6}):)?([0-9]{1,9}(?:[.,][0-9]{1,9})?)(?: ?s)?")
_NUMBERS: Final = {"number", "integer"}


def check_media_times(json_schema: Mapping[str, Any], where: str) -> None:
    """Check that times are numbers at positions where they can be found, and that every `enum` has values.

    Args:
        json_schema: a schema that has passed `check_is_closed`.

    Raises:
        PromptError: a field is invalid; the message has its path.
    """
    pending: list[tuple[str, Any]] = [("", json_schema)]
    while pending:
        path, schema = pending.pop()
        if not isinstance(schema, Mapping):
            continue
        label = label_of(where, path)
        if schema.get("enum") == []:
            raise PromptError(f"{label}: 'enum' is empty, so no value is valid; list the values or remove it")
        if schema.get("format") == MEDIA_TIME_FORMAT and not _is_number(schema):
            found = schema.get("type", "a value without type")
            raise PromptError(f'{label}: "format": "{MEDIA_TIME_FORMAT}" requires the type number, not {found}')
        for keyword, step, part in named_subschemas(schema):
            below = join_path(path, step)
            if keyword in ("unevaluatedProperties", "unevaluatedItems") and _has_time(part, json_schema):
                use = "additionalProperties" if keyword == "unevaluatedProperties" else "items"
                raise PromptError(f"{label_of(where, below)}: {keyword} must not have a media-time; use {use}")
            pending.append((below, part))


def read_time_texts(metadata: dict[str, Any], json_schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer with the texts that stand for times as seconds: "00:03", "1:02:03.5", "3.5s".

    A text stays as it is where the schema allows text, or where it is not a time.
    """
    finder = _finder(canonical_json(json_schema))
    if finder is None:
        return metadata
    times, texts = finder.find(metadata, accept_text=True)
    return dict(change_at(metadata, times - texts, lambda value, _: _seconds_or_same(value)))


def has_media_time(json_schema: Mapping[str, Any]) -> bool:
    """Return whether answers that fit a schema can have media times."""
    return _has_time(json_schema, json_schema)


def time_locations(metadata: Mapping[str, Any], json_schema: Mapping[str, Any]) -> set[Location]:
    """Return the locations of the times in an answer that fits the schema."""
    finder = _finder(canonical_json(json_schema))
    return set() if finder is None else finder.find(metadata)[0]


def change_at(value: Any, locations: set[Location], change: Callable[[Any, Location], Any], at: Location = ()) -> Any:
    """Return a copy of a JSON value with `change(value, location)` at some locations."""
    if at in locations:
        return change(value, at)
    if isinstance(value, Mapping):
        return {key: change_at(part, locations, change, (*at, key)) for key, part in value.items()}
    if isinstance(value, list):
        return [change_at(part, locations, change, (*at, number)) for number, part in enumerate(value)]
    return value


def seconds_of(text: str) -> int | float | None:
    """Return the seconds of a time written as `h:mm:ss`, `m:ss` or seconds; None if it is no time.

    >>> [seconds_of(text) for text in ("00:03", "1:02:03.5", "75:30", "3.5s", "1:99", "soon")]
    [3, 3723.5, 4530, 3.5, None, None]
    """
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = (Decimal((part or "0").replace(",", ".")) for part in match.groups())
    if (match.group(2) and seconds >= 60) or (match.group(1) and minutes >= 60):
        return None
    total = hours * 3600 + minutes * 60 + seconds
    return int(total) if total == int(total) else float(total)


def _seconds_or_same(value: Any) -> Any:
    seconds = seconds_of(value) if isinstance(value, str) else None
    return value if seconds is None else seconds


@functools.lru_cache(maxsize=64)
def _finder(schema_text: str) -> _Finder | None:
    schema = json.loads(schema_text)
    return _Finder(schema) if _has_time(schema, schema) else None


class _Finder:
    """Walks a value together with its schema."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._strict = validator_of(root)
        # A text may fit both a time and a text of a oneOf.
        any_of = jsonschema.Draft202012Validator.VALIDATORS["anyOf"]
        lenient: Any = extend(type(self._strict), {"type": _number_or_time, "oneOf": any_of})  # type: ignore[no-untyped-call]
        self._lenient = lenient(self._strict.schema, registry=Registry())
        self._with_time: dict[int, bool] = {}

    def find(self, value: Any, *, accept_text: bool = False) -> tuple[set[Location], set[Location]]:
        """Return the locations that have times, and those that may have text.

        Args:
            accept_text: whether a time written as text fits where a time is expected.
        """
        times: set[Location] = set()
        texts: set[Location] = set()
        validator = self._lenient if accept_text else self._strict
        pending: list[tuple[Any, Any, Location, bool]] = [(self._root, value, (), False)]
        while pending:
            schema, part, at, has_alternatives = pending.pop()
            if not isinstance(schema, Mapping) or not (has_alternatives or self._has_time(schema)):
                continue
            is_text = isinstance(part, str)
            if schema.get("format") == MEDIA_TIME_FORMAT and (is_text or _is_plain_number(part)):
                times.add(at)
            if is_text and _allows_text(schema, part):
                texts.add(at)
            pending += ((inner, part, at, True) for inner in self._in_place(schema, part, validator))
            pending += (
                (inner, below, (*at, key), has_alternatives) for inner, below, key in _parts(schema, part, validator)
            )
        return times, texts

    def _has_time(self, schema: Mapping[str, Any]) -> bool:
        if id(schema) not in self._with_time:
            self._with_time[id(schema)] = _has_time(schema, self._root)
        return self._with_time[id(schema)]

    def _in_place(self, schema: Mapping[str, Any], value: Any, validator: Any) -> Iterator[Any]:
        """Yield the subschemas that apply to the same value and, of a union or condition, fit it."""
        if "$ref" in schema:
            yield look_up(schema["$ref"], self._root, "json_schema")
        yield from schema.get("allOf", ())
        for keyword in ("anyOf", "oneOf"):
            yield from (part for part in schema.get(keyword, ()) if _fits(part, value, validator))
        if "if" in schema:
            if _fits(schema["if"], value, validator):
                yield schema["if"]
                yield schema.get("then", True)
            else:
                yield schema.get("else", True)
        if isinstance(value, Mapping):
            yield from (part for name, part in schema.get("dependentSchemas", {}).items() if name in value)


def _parts(schema: Mapping[str, Any], value: Any, validator: Any) -> Iterator[tuple[Any, Any, str | int]]:
    """Yield (subschema, part, key) of the parts of an object or array."""
    if isinstance(value, Mapping):
        properties = schema.get("properties", {})
        for name, part in value.items():
            if name in properties or "additionalProperties" in schema:
                yield properties.get(name, schema.get("additionalProperties")), part, name
    elif isinstance(value, list):
        positions = schema.get("prefixItems", ())
        for number, part in enumerate(value):
            if number < len(positions):
                yield positions[number], part, number
            elif "items" in schema:
                yield schema["items"], part, number
            if "contains" in schema and _fits(schema["contains"], part, validator):
                yield schema["contains"], part, number


def _fits(schema: Any, value: Any, validator: Any) -> bool:
    return bool(validator.evolve(schema=schema).is_valid(value))


def _number_or_time(validator: Any, types: Any, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    is_time = (
        isinstance(instance, str) and schema.get("format") == MEDIA_TIME_FORMAT and seconds_of(instance) is not None
    )
    if not is_time:
        yield from jsonschema.Draft202012Validator.VALIDATORS["type"](validator, types, instance, schema)


def _allows_text(schema: Mapping[str, Any], text: str) -> bool:
    types = schema.get("type")
    return types == "string" or (isinstance(types, list) and "string" in types) or text in _values(schema)


def _values(schema: Mapping[str, Any]) -> list[Any]:
    return [schema["const"]] if "const" in schema else schema.get("enum", [])


def _is_number(schema: Mapping[str, Any]) -> bool:
    types = schema.get("type")
    names = set(types) - {"null"} if isinstance(types, list) else {types}
    return bool(names) and names <= _NUMBERS


def _is_plain_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_time(schema: Any, root: Mapping[str, Any]) -> bool:
    """Return whether a schema, or one that it applies, has a media time."""
    pending, visited = [schema], set()
    while pending:
        part = pending.pop()
        if not isinstance(part, Mapping) or id(part) in visited:
            continue
        visited.add(id(part))
        if part.get("format") == MEDIA_TIME_FORMAT:
            return True
        pending += [below for keyword, _, below in named_subschemas(part) if keyword not in DEFINITIONS]
        if "$ref" in part:
            pending.append(look_up(part["$ref"], root, "json_schema"))
    return False
