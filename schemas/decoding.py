"""Helpers to decode JSON values into dataclasses with pydantic."""

from __future__ import annotations

import reprlib
from typing import Any, Final

from pydantic import BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticUseDefault

FORBID_UNKNOWN: Final = ConfigDict(extra="forbid")

# pydantic names Python types; users write JSON.
_JSON_TYPES: Final = {"dataclass_type": "a JSON object", "mapping_type": "a JSON object", "tuple_type": "a JSON array"}


def first_problem(error: ValidationError) -> str:
    """Describe the first problem of a value that does not decode: the field, its value and the fix."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in problem["loc"]) or "the value"
    if problem["type"] == "missing":
        return f"{field} is missing; add it"
    if problem["type"] == "unexpected_keyword_argument":
        return f"{field} is unknown; remove it or correct its name"
    expected = _JSON_TYPES.get(problem["type"]) or problem["msg"].removeprefix("Input should be ")
    return f"{field} is {reprlib.repr(problem['input'])}; it must be {expected}"


def _default_if_null(value: Any) -> Any:
    if value is None:
        raise PydanticUseDefault
    return value


# Marks a field with a default: null in JSON means the default.
NULL_IS_DEFAULT: Final = BeforeValidator(_default_if_null)
