"""Estimate the output tokens of a call before it is made: the length of an answer that fits a schema, and the thoughts.

Both are rough: how much a model writes depends on the media and the prompt. The spread is therefore wide, until calls of
earlier runs show what the model really writes (`promptreel.pipelines.calibration`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from promptreel.schemas.references import resolve
from promptreel.schemas.settings import ModelSettings
from promptreel.schemas.spread import Spread, total

CHARS_PER_TOKEN: Final = 4
# Characters of a value that the schema does not bound.
TEXT_CHARS: Final = Spread(4, 60, 240)
_OPEN_OBJECT_CHARS: Final = Spread(2, 20, 400)
_SCALAR_CHARS: Final[Mapping[str, Spread]] = {
    "integer": Spread(1, 2, 10),
    "number": Spread(1, 4, 12),
    "boolean": Spread(4, 5, 5),
    "null": Spread.exactly(4),
}
_FORMAT_CHARS: Final = {"date": 12, "date-time": 22, "time": 10}
# Entries of a list without bounds, and the share of optional fields that an answer has.
LIST_LENGTH: Final = Spread(0, 2, 5)
_OPTIONAL: Final = Spread(0, 0.8, 1)
_MAX_DEPTH: Final = 16
_KEY_CHARS: Final = 6  # quotes, colon, comma and spaces of a field
_SEPARATOR_CHARS: Final = 2

# Thought tokens of one call by level.
_THOUGHTS: Final[Mapping[str, Spread]] = {
    "minimal": Spread(0, 0, 100),
    "low": Spread(0, 200, 800),
    "medium": Spread(0, 500, 2500),
    "high": Spread(0, 1000, 6000),
}


def answer_tokens(json_schema: Mapping[str, Any], limit: int) -> Spread:
    """Return the tokens of one answer that fits a schema, at most the token limit of an answer."""
    return _within(_chars(json_schema, json_schema, 0).scaled(1 / CHARS_PER_TOKEN), None, limit)


def thought_tokens(settings: ModelSettings) -> Spread:
    """Return the thought tokens of one call, which are billed as output."""
    budget = settings.thinking_budget
    if budget is not None and budget >= 0:
        spread = Spread(0, budget / 2, budget)
    else:
        spread = _THOUGHTS[settings.thinking_level or _default_level(settings.model)]
    limit = settings.max_output_tokens
    return Spread(spread.low, min(spread.expected, limit), min(spread.high, limit))


def _default_level(model: str) -> str:
    """Return the level that corresponds to what a model does by itself."""
    if "lite" in model or not model.rpartition("/")[2].startswith("gemini"):
        return "minimal"
    return "medium"


def _chars(schema: Any, root: Mapping[str, Any], depth: int) -> Spread:
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return _OPEN_OBJECT_CHARS
    schema, _ = resolve(schema, root, "schema")
    if "const" in schema:
        return Spread.exactly(len(json.dumps(schema["const"])))
    if schema.get("enum"):
        return _either([Spread.exactly(len(json.dumps(value))) for value in schema["enum"]])
    for keyword in ("anyOf", "oneOf"):
        if schema.get(keyword):
            return _either([_chars(option, root, depth + 1) for option in schema[keyword]])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        return _either([_chars({**schema, "type": name}, root, depth + 1) for name in kind])
    if kind == "object":
        return _object_chars(schema, root, depth)
    if kind == "array":
        length = _within(LIST_LENGTH, schema.get("minItems"), schema.get("maxItems"))
        entry = _chars(schema.get("items", {"type": "string"}), root, depth + 1)
        return length * (entry + Spread.exactly(_SEPARATOR_CHARS)) + Spread.exactly(2)
    if kind == "string":
        fixed = _FORMAT_CHARS.get(schema.get("format", ""))
        if fixed is not None:
            return Spread.exactly(fixed)
        return _within(TEXT_CHARS, schema.get("minLength"), schema.get("maxLength")) + Spread.exactly(2)
    return _SCALAR_CHARS.get(kind, _OPEN_OBJECT_CHARS)


def _object_chars(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Spread:
    properties, required = schema.get("properties", {}), schema.get("required", ())
    if not properties:
        return _OPEN_OBJECT_CHARS
    fields = [
        (_chars(part, root, depth + 1) + Spread.exactly(len(name) + _KEY_CHARS))
        * (Spread.exactly(1) if name in required else _OPTIONAL)
        for name, part in properties.items()
    ]
    return total(fields) + Spread.exactly(2)


def _either(options: Sequence[Spread]) -> Spread:
    return Spread(
        min(option.low for option in options),
        sum(option.expected for option in options) / len(options),
        max(option.high for option in options),
    )


def _within(spread: Spread, minimum: float | None, maximum: float | None) -> Spread:
    """Return a spread within the bounds of a schema; a model writes more than a minimum, and never above a maximum."""
    low, expected, high = (
        max(value, (minimum or 0) * factor) for value, factor in zip(spread.bounds(), (1, 1.2, 2), strict=True)
    )
    most = float("inf") if maximum is None else maximum
    return Spread(min(low, most), min(expected, most), min(high, most))
