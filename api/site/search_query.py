"""What the search page searches for, as its URL and its forms say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from pydantic import ValidationError

from promptreel.api.search.filter_sql import FilterField
from promptreel.api.web.errors import invalid
from promptreel.schemas.wire.filter import OPERATORS, FilterSearch

CONDITIONS: Final = 3
OPERATOR_NAMES: Final[Mapping[str, str]] = {
    "contains": "contains",
    "equals": "is",
    "starts_with": "starts with",
    "ends_with": "ends with",
    "greater_equal": "is at least",
    "greater_than": "is more than",
    "less_equal": "is at most",
    "less_than": "is less than",
    "item_equals": "has the item",
    "item_contains": "has an item with",
    "length_equals": "has this many items",
    "length_greater": "has more items than",
    "length_less": "has fewer items than",
    "is_empty": "is empty",
    "is_not_empty": "is not empty",
}
_WITHOUT_VALUE: Final = ("is_empty", "is_not_empty")
_HITS_PER_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class ShownCondition:
    """A condition as the form has it: a field, a key of `OPERATOR_NAMES` and a value, all as text."""

    field: str = ""
    operator: str = "contains"
    value: str = ""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A search.

    Attributes:
        text: words to search for; empty for none.
        index, run_ids: see `PageScope`.
        conditions: those with a field.
        cursor: where the page of hits of the conditions starts; empty for the first one.
    """

    text: str = ""
    index: str = ""
    run_ids: tuple[str, ...] = ()
    conditions: tuple[ShownCondition, ...] = ()
    cursor: str = ""

    def url(self, **changes: Any) -> str:
        """Return the URL of this search with another `cursor`."""
        pairs = [("q", self.text), ("index", self.index), *(("run", run_id) for run_id in self.run_ids)]
        for condition in self.conditions:
            pairs += [("field", condition.field), ("op", condition.operator), ("value", condition.value)]
        kept = [(name, value) for name, value in pairs if value or name == "value"]
        cursor = changes.get("cursor", self.cursor)
        return f"/search?{urlencode([*kept, *([('cursor', cursor)] if cursor else [])])}"


def shown_conditions(
    fields: Sequence[str], operators: Sequence[str], values: Sequence[str]
) -> tuple[ShownCondition, ...]:
    """Join the parameters of the form to conditions; rows without a field are left out.

    Raises:
        ApiError: 422 if an operator is unknown or a parameter is missing.
    """
    if not len(fields) == len(operators) == len(values):
        raise invalid("conditions: each needs field, op and value", "conditions")
    rows = zip(fields, operators, values, strict=True)
    found = tuple(ShownCondition(field.strip(), operator, value) for field, operator, value in rows if field.strip())
    for condition in found:
        if condition.operator not in OPERATOR_NAMES:
            message = f"op: {condition.operator!r} is none of {', '.join(OPERATOR_NAMES)}"
            raise invalid(message, "conditions")
    return found


def filter_search(query: SearchQuery, fields: Mapping[str, FilterField]) -> FilterSearch:
    """Return the conditions of a query as the body of a filter search.

    Args:
        fields: the known fields, by path, which decide the types of the values.

    Raises:
        ApiError: 422 if a value does not have the type of its field.
    """
    conditions = [_condition(shown, fields.get(shown.field.removesuffix("[]"))) for shown in query.conditions]
    body = {
        "conditions": conditions,
        "page_size": _HITS_PER_PAGE,
        "cursor": query.cursor or None,
        "run_ids": list(query.run_ids) or None,
    }
    try:
        return FilterSearch.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise invalid(f"{path}: {first['msg']}", "conditions") from error


def _condition(shown: ShownCondition, field: FilterField | None) -> dict[str, Any]:
    condition = {"field": shown.field, "type": _type_of(shown.operator, field), "operator": shown.operator}
    if shown.operator in _WITHOUT_VALUE:
        return condition
    return {**condition, "value": _value(shown, _value_type(condition["type"], shown.operator, field))}


def _type_of(operator: str, field: FilterField | None) -> str:
    """Return the type of a condition on a field; for an unknown field, a type that has the operator."""
    if operator in _WITHOUT_VALUE:
        return "array" if field is not None and field.lists else "string"
    if operator not in OPERATORS["string"] and operator in OPERATORS["array"]:
        return "array"
    if field is not None and operator in OPERATORS.get(field.type, ()):
        return field.type
    return "string" if operator in OPERATORS["string"] else "number"


def _value_type(kind: str, operator: str, field: FilterField | None) -> str:
    if kind != "array":
        return kind
    if operator.startswith("length_"):
        return "integer"
    return field.type if operator == "item_equals" and field is not None else "string"


def _value(shown: ShownCondition, value_type: str) -> Any:
    text = shown.value.strip()
    if not text:
        raise invalid(f"{shown.field}: the value is missing", "conditions")
    try:
        if value_type == "integer":
            return int(text)
        if value_type == "number":
            return float(text)
    except ValueError as error:
        kind = "a whole number" if value_type == "integer" else "a number"
        raise invalid(f"{shown.field}: {shown.value!r} is not {kind}", "conditions") from error
    if value_type == "boolean":
        if text.lower() not in ("true", "false"):
            raise invalid(f"{shown.field}: {shown.value!r} is neither true nor false", "conditions")
        return text.lower() == "true"
    return shown.value
