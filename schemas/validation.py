"""Holding values against a prompt's JSON schema, which others wrote: nothing is fetched, and no schema or value can make the
check take for ever.

jsonschema follows any `$ref` to wherever it leads and searches with Python's `re`, which backtracks. Here references are
local, schemas do not refer to themselves, and patterns are those of RE2, which searches in linear time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

import jsonschema
import re2
from jsonschema.validators import extend
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from promptreel.schemas.errors import PromptError
from promptreel.schemas.field_paths import look_up
from promptreel.schemas.ids import canonical_json

MAX_CHARS: Final = 100_000
MAX_NESTING: Final = 64
# Schemas that one value may be held against in all, each as often as it is referred to.
MAX_EXPANDED: Final = 10_000
_NOT_READ: Final = {
    "$dynamicRef": "use $ref with '#/...'",
    "$recursiveRef": "use $ref with '#/...'",
    "patternProperties": "name the properties",
}
_DEFINITIONS: Final = ("$defs", "definitions")  # a value is held against them only where a $ref leads there
_OF_THE_ROOT: Final = ("$schema", "$id")
_MESSAGE_CHARS: Final = 200


def check_is_small(value: Any, where: str) -> None:
    """Checks size and nesting of a JSON value, before anything is done with it that could take long or run deep.

    Raises:
        PromptError: it is too long or nested too deep.
    """
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_NESTING:
            raise PromptError(f"{where}: is nested deeper than {MAX_NESTING} levels; flatten it")
        level = [part for outer in level for part in _parts(outer)]
    if (chars := len(canonical_json(value))) > MAX_CHARS:
        raise PromptError(f"{where}: has {chars} characters, more than {MAX_CHARS}; make it smaller")


def check_is_closed(json_schema: Mapping[str, Any], where: str) -> None:
    """Checks that a valid schema refers to parts of itself alone, never in a circle, and searches with patterns of RE2.

    Raises:
        PromptError: naming the keyword and its value.
    """
    parts = list(_subschemas(json_schema))
    known = {id(part) for part in parts}
    for part in parts:
        for keyword, fix in _NOT_READ.items():
            if keyword in part:
                raise PromptError(f"{where}: {keyword} is not read; {fix}")
        for keyword in _OF_THE_ROOT:
            if keyword in part and part is not json_schema:
                raise PromptError(f"{where}: {keyword} {part[keyword]!r} may stand at the root alone")
        if "$ref" in part and id(look_up(part["$ref"], json_schema, where)) not in known:
            raise PromptError(f"{where}: $ref {part['$ref']!r} leads to no schema; put the schema under $defs")
        if "pattern" in part:
            _check_pattern(part["pattern"], where)
    _expanded(json_schema, json_schema, where, {})


def validator_of(json_schema: Mapping[str, Any]) -> jsonschema.protocols.Validator:
    """A validator of a schema that `check_is_closed` has let pass."""
    plain = {name: value for name, value in json_schema.items() if name not in _OF_THE_ROOT}
    return _Validator(plain, registry=Registry())  # type: ignore[no-any-return]


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _subschemas(json_schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    waiting: list[Any] = [json_schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            yield part
            waiting.extend(DRAFT202012.subresources_of(part))


def _expanded(schema: Any, root: Mapping[str, Any], where: str, known: dict[int, int | None]) -> int:
    """How many schemas a schema is with all that it refers to, each counted as often as it is referred to."""
    if not isinstance(schema, Mapping):
        return 1
    if id(schema) in known:
        size = known[id(schema)]
        if size is None:
            raise PromptError(f"{where}: a $ref goes in a circle; a schema cannot hold itself")
        return size
    known[id(schema)] = None
    parts = list(DRAFT202012.subresources_of({key: part for key, part in schema.items() if key not in _DEFINITIONS}))
    if "$ref" in schema:
        parts.append(look_up(schema["$ref"], root, where))
    size = 1 + sum(_expanded(part, root, where, known) for part in parts)
    if size > MAX_EXPANDED:
        raise PromptError(f"{where}: with its references it is more than {MAX_EXPANDED} schemas; ask for less")
    known[id(schema)] = size
    return size


def _check_pattern(pattern: str, where: str) -> None:
    try:
        _compiled(pattern)
    except (re2.error, UnicodeEncodeError) as error:
        why = error.args[0].decode("utf-8", "replace") if isinstance(error, re2.error) else str(error)
        raise PromptError(
            f"{where}: pattern {pattern[:_MESSAGE_CHARS]!r} is none of RE2's ({why}); it knows neither look-around nor "
            "back-references"
        ) from error


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    if validator.is_type(instance, "string") and not _compiled(pattern).search(instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique_items(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    if wanted and validator.is_type(instance, "array"):
        seen = {canonical_json(_same_numbers(value)) for value in instance}
        if len(seen) < len(instance):
            yield jsonschema.ValidationError(f"{instance!r} has non-unique elements")


def _same_numbers(value: Any) -> Any:
    """A value with 1.0 as 1, which are the same number to JSON Schema."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _same_numbers(part) for name, part in value.items()}
    return [_same_numbers(part) for part in value] if isinstance(value, list) else value


_Validator: Final = extend(jsonschema.Draft202012Validator, {"pattern": _pattern, "uniqueItems": _unique_items})  # type: ignore[no-untyped-call]
