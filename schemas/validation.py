"""Validate values against untrusted JSON schemas, without network access and in bounded time.

jsonschema resolves any `$ref`, also remote ones, and matches patterns with Python's backtracking `re`. Here, references
are local and not recursive, and patterns run on RE2, which matches in linear time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jsonschema
import re2
from jsonschema.validators import extend
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from promptreel.schemas.errors import PromptError
from promptreel.schemas.ids import canonical_json
from promptreel.schemas.references import CIRCULAR, look_up
from promptreel.schemas.subschemas import DEFINITIONS, join_path, label_of, named_subschemas

MAX_CHARS: Final = 100_000
MAX_NESTING: Final = 64
# Maximum number of subschemas after expanding all references.
MAX_EXPANDED: Final = 10_000
_UNSUPPORTED: Final = {
    "$dynamicRef": "use $ref with '#/...'",
    "$recursiveRef": "use $ref with '#/...'",
    "patternProperties": "use properties",
}
_ROOT_ONLY: Final = ("$schema", "$id")
_MAX_PATTERN_CHARS: Final = 200  # in error messages


def check_is_small(value: Any, where: str) -> None:
    """Check the size and nesting of a JSON value before any recursive or expensive processing.

    Raises:
        PromptError: the value is too long or nested too deeply.
    """
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_NESTING:
            raise PromptError(f"{where}: is nested deeper than {MAX_NESTING} levels; flatten it")
        level = [child for parent in level for child in _children(parent)]
    if (chars := len(canonical_json(value))) > MAX_CHARS:
        raise PromptError(f"{where}: has {chars} characters; the limit is {MAX_CHARS}")


def check_is_closed(json_schema: Mapping[str, Any], where: str) -> None:
    """Check that a valid schema only has local, non-recursive references, and only RE2 patterns.

    Raises:
        PromptError: a keyword is not supported; the message has the keyword and its value.
    """
    subschemas = list(_subschemas(json_schema))
    known = {id(subschema) for subschema in subschemas}
    for subschema in subschemas:
        for keyword, fix in _UNSUPPORTED.items():
            if keyword in subschema:
                raise PromptError(f"{where}: {keyword} is not supported; {fix}")
        for keyword in _ROOT_ONLY:
            if keyword in subschema and subschema is not json_schema:
                raise PromptError(f"{where}: {keyword} {subschema[keyword]!r} is only allowed at the root")
        if "$ref" in subschema and id(look_up(subschema["$ref"], json_schema, where)) not in known:
            raise PromptError(
                f"{where}: $ref {subschema['$ref']!r} does not point to a schema; put the schema under $defs"
            )
        if "pattern" in subschema:
            _check_pattern(subschema["pattern"], where)
    _count_expanded(json_schema, _Expansion(json_schema, where, {}), "", 0)


def validator_of(json_schema: Mapping[str, Any]) -> jsonschema.protocols.Validator:
    """Return a validator for a schema that has passed `check_is_closed`."""
    # With `$schema`, jsonschema would switch to its own validator, without RE2; `$id` would change the base of references.
    local = {name: value for name, value in json_schema.items() if name not in _ROOT_ONLY}
    return _Validator(local, registry=Registry())  # type: ignore[no-any-return]


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _subschemas(json_schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    pending: list[Any] = [json_schema]
    while pending:
        subschema = pending.pop()
        if isinstance(subschema, Mapping):
            yield subschema
            pending.extend(DRAFT202012.subresources_of(subschema))


@dataclass(frozen=True, slots=True)
class _Expansion:
    """The state of a count; `sizes` caches (subschemas, levels) by identity of the schema, None is in progress."""

    root: Mapping[str, Any]
    where: str
    sizes: dict[int, tuple[int, int] | None]


def _count_expanded(schema: Any, expansion: _Expansion, path: str, depth: int) -> tuple[int, int]:
    """Count the subschemas and the levels of a schema after expanding its references."""
    if not isinstance(schema, Mapping):
        return 1, 1
    label = label_of(expansion.where, path)
    size = expansion.sizes.get(id(schema), (0, 1))
    if size is None:
        raise PromptError(f"{label}: a $ref {CIRCULAR}")
    if depth + size[1] > MAX_NESTING:
        raise PromptError(f"{label}: is nested deeper than {MAX_NESTING} levels through references; flatten it")
    if size[0]:
        return size
    expansion.sizes[id(schema)] = None
    applied = [(step, part) for keyword, step, part in named_subschemas(schema) if keyword not in DEFINITIONS]
    if "$ref" in schema:
        applied.append(("", look_up(schema["$ref"], expansion.root, label)))
    sizes = [_count_expanded(part, expansion, join_path(path, step), depth + 1) for step, part in applied]
    count = 1 + sum(size for size, _ in sizes)
    if count > MAX_EXPANDED:
        raise PromptError(f"{label}: expands to more than {MAX_EXPANDED} subschemas; use fewer references")
    expansion.sizes[id(schema)] = (count, 1 + max((levels for _, levels in sizes), default=0))
    return expansion.sizes[id(schema)] or (0, 0)


def _check_pattern(pattern: str, where: str) -> None:
    try:
        _compile(pattern)
    except (re2.error, UnicodeEncodeError) as error:
        cause = error.args[0].decode("utf-8", "replace") if isinstance(error, re2.error) else str(error)
        raise PromptError(
            f"{where}: pattern {pattern[:_MAX_PATTERN_CHARS]!r} is not valid in RE2 ({cause}); RE2 has no lookaround and no "
            "backreferences"
        ) from error


@functools.lru_cache(maxsize=256)
def _compile(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    if validator.is_type(instance, "string") and not _compile(pattern).search(instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique_items(
    validator: Any, is_required: bool, instance: Any, schema: Any
) -> Iterator[jsonschema.ValidationError]:
    # jsonschema compares every pair of items that cannot be sorted, which takes quadratic time.
    if is_required and validator.is_type(instance, "array"):
        distinct = {canonical_json(_normalize_numbers(value)) for value in instance}
        if len(distinct) < len(instance):
            yield jsonschema.ValidationError(f"{instance!r} has non-unique elements")


def _normalize_numbers(value: Any) -> Any:
    """Replace 1.0 by 1, because JSON Schema treats them as equal."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _normalize_numbers(part) for name, part in value.items()}
    return [_normalize_numbers(part) for part in value] if isinstance(value, list) else value


_Validator: Final = extend(jsonschema.Draft202012Validator, {"pattern": _pattern, "uniqueItems": _unique_items})  # type: ignore[no-untyped-call]
