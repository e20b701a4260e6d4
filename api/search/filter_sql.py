"""Compile filter conditions to DuckDB SQL over the typed `fields` struct of a run's results.

Values are passed as parameters; the SQL text contains only quoted names from the prompt's schema. Every expression is true
or false, never null, so that `not` is the exact complement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.field_paths import SCALAR_TYPES, Node, parse_schema
from promptreel.schemas.prompt import SYSTEM_FIELDS, Prompt
from promptreel.schemas.wire.filter import AllOf, AnyOf, NotThis
from promptreel.tables.run_views import quoted
from promptreel.tables.table_schemas import FIELDS

_COMPARISONS: Final = {
    "equals": "=",
    "greater_than": ">",
    "greater_equal": ">=",
    "less_than": "<",
    "less_equal": "<=",
    "length_equals": "=",
    "length_greater": ">",
    "length_less": "<",
}
_TEXT_TESTS: Final = {
    "equals": "lower({value}) = lower({operand})",
    "contains": "contains(lower({value}), lower({operand}))",
    "starts_with": "starts_with(lower({value}), lower({operand}))",
    "ends_with": "suffix(lower({value}), lower({operand}))",
}
_EACH: Final = None  # the step from a list to its elements

FieldType = Literal["string", "integer", "number", "boolean", "json", "object"]


class FilterMismatch(InvalidInput):
    """A field is not in a prompt's schema, or its type does not fit the condition."""


@dataclass(frozen=True, slots=True)
class FilterField:
    """A field that conditions can use.

    Attributes:
        type: type of one value; "object" for the elements of an array of objects, which have no value themselves.
        steps: path from the root to the field: a key, or None for each element of a list. If the field is a list, the path
            ends at this list.
        lists: number of nested lists of the field's own value; 0 for a plain value.
        system: whether it is `metadata_text` or `transcription`, which are not part of the answer.
    """

    path: str
    type: FieldType
    steps: tuple[str | None, ...] = ()
    lists: int = 0
    system: bool = False


def filter_fields(prompt: Prompt, struct: Any = None) -> dict[str, FilterField]:
    """Return the fields of a prompt that conditions can use, by canonical path.

    Args:
        struct: DuckDB's type of the `fields` column, whose names are used by position, because DuckDB renames keys that
            differ only in case; None takes the names from the schema.
    """
    found: dict[str, FilterField] = {}
    root = parse_schema(prompt.json_schema)
    _collect(root, "", (), struct, found)
    for name in SYSTEM_FIELDS:
        found[name] = FilterField(name, "string", system=True)
    return found


def find_field(fields: Mapping[str, FilterField], path: str) -> FilterField:
    """Return the field of a path; the path of an array may end with `[]`.

    Raises:
        FilterMismatch: the field is unknown; the message lists the known ones.
    """
    plain = path
    while plain not in fields and plain.endswith("[]"):
        plain = plain.removesuffix("[]")
    if plain not in fields or (plain != path and not fields[plain].lists):
        raise FilterMismatch(f"unknown field {path!r}; the fields are {', '.join(fields)}")
    return fields[plain]


def compile_filter(
    nodes: Sequence[Any], fields: Mapping[str, FilterField], transcripts: str = "transcripts"
) -> tuple[str, dict[str, Any]]:
    """Return (SQL, parameters by name) of the conjunction of conditions and groups, over rows of `results`.

    Args:
        transcripts: SQL of a relation with `segment_id` and `text` of the transcripts.

    Raises:
        FilterMismatch: a field is unknown, or its type does not fit.
    """
    writer = _Writer(fields, transcripts)
    return " AND ".join(writer.node(node) for node in nodes), writer.parameters


def _collect(node: Node, path: str, steps: tuple[str | None, ...], struct: Any, found: dict[str, FilterField]) -> None:
    if node.kind == "object":
        names = [name for name, _ in struct.children] if struct is not None else [name for name, _ in node.fields]
        for at, (name, child) in enumerate(node.fields):
            inner = struct.children[at][1] if struct is not None else None
            _collect(child, f"{path}.{name}" if path else name, (*steps, names[at]), inner, found)
        return
    items, lists = node, 0
    while items.kind == "array":
        assert items.items is not None
        items, lists = items.items, lists + 1
    if items.kind == "leaf":
        found[path] = FilterField(path, items.type, steps, lists)
        return
    for _ in range(lists):
        struct = struct.children[0][1] if struct is not None else None
    found[path] = FilterField(path, "object", steps, lists)
    _collect(items, path + "[]", (*steps, *[_EACH] * lists), struct, found)


class _Writer:
    """Writes SQL expressions and collects their parameters."""

    def __init__(self, fields: Mapping[str, FilterField], transcripts: str) -> None:
        self._fields = fields
        self._transcripts = transcripts
        self.parameters: dict[str, Any] = {}

    def node(self, node: Any) -> str:
        if isinstance(node, AnyOf):
            return "(" + " OR ".join(self.node(part) for part in node.any) + ")"
        if isinstance(node, AllOf):
            return "(" + " AND ".join(self.node(part) for part in node.all) + ")"
        if isinstance(node, NotThis):
            return f"(NOT {self.node(node.not_)})"
        return self._condition(node)

    def _condition(self, condition: Any) -> str:
        field = find_field(self._fields, condition.field)
        _check_type(field, condition)
        operator = condition.operator
        if condition.type == "array":
            return self._array(field, condition)
        if operator == "is_empty":
            return f"(NOT {self._any_value(field, _is_not_blank)})"
        if operator == "is_not_empty":
            return self._any_value(field, _is_not_blank)
        operand = self._parameter(condition.value)
        if condition.type == "string":
            return self._any_value(field, lambda value: _TEXT_TESTS[operator].format(value=value, operand=operand))
        return self._any_value(field, lambda value: f"{value} {_COMPARISONS[operator]} {operand}")

    def _array(self, field: FilterField, condition: Any) -> str:
        operator = condition.operator
        if operator == "is_empty":
            return f"(NOT {self._any_list(field, lambda length: f'{length} > 0')})"
        if operator == "is_not_empty":
            return self._any_list(field, lambda length: f"{length} > 0")
        operand = self._parameter(condition.value)
        if operator.startswith("length_"):
            return self._any_list(field, lambda length: f"{length} {_COMPARISONS[operator]} {operand}")
        if operator == "item_contains":
            return self._any_value(field, lambda value: _TEXT_TESTS["contains"].format(value=value, operand=operand))
        if isinstance(condition.value, str):
            return self._any_value(field, lambda value: _TEXT_TESTS["equals"].format(value=value, operand=operand))
        return self._any_value(field, lambda value: f"{value} = {operand}")

    def _any_value(self, field: FilterField, test: Callable[[str], str]) -> str:
        """SQL: whether any value of the field, also inside lists, meets a test."""
        if field.path == "transcription" and field.system:
            return f"segment_id IN (SELECT segment_id FROM {self._transcripts} WHERE {_or_false(test('text'))})"
        if field.system:
            return _or_false(test(quoted(field.path)))
        steps = (*field.steps, *[_EACH] * field.lists)
        if field.type == "json":
            return _any(quoted(FIELDS), steps, lambda value: test(f"({value} ->> '$')"), 0)
        return _any(quoted(FIELDS), steps, test, 0)

    def _any_list(self, field: FilterField, test: Callable[[str], str]) -> str:
        """SQL: whether the length of any list of the field meets a test; a missing list has length 0."""
        return _any(quoted(FIELDS), field.steps, lambda value: test(f"coalesce(len({value}), 0)"), 0)

    def _parameter(self, value: Any) -> str:
        name = f"operand{len(self.parameters)}"
        self.parameters[name] = value
        return f"${name}"


def _any(value: str, steps: Sequence[str | None], test: Callable[[str], str], depth: int) -> str:
    """SQL: whether the test holds for any value that the steps lead to, starting from a value."""
    for at, step in enumerate(steps):
        if step is _EACH:
            element = f"e{depth}"
            inner = _any(element, steps[at + 1 :], test, depth + 1)
            return _or_false(f"len(list_filter({value}, lambda {element}: {inner})) > 0")
        value = f"{value}.{quoted(step)}"
    return _or_false(test(value))


def _or_false(expression: str) -> str:
    """SQL: the expression with null as false."""
    return f"coalesce({expression}, false)"


def _is_not_blank(value: str) -> str:
    return f"regexp_matches({value}, '\\S')"


def _check_type(field: FilterField, condition: Any) -> None:
    """Reject a condition that cannot hold for any value of the field.

    Raises:
        FilterMismatch: the types do not fit.
    """
    compatible = {"integer": ("integer", "number"), "number": ("integer", "number"), "json": ("string",), "object": ()}
    allowed = compatible.get(field.type, (field.type,))
    operand_type = condition.type
    if operand_type == "array":
        if not field.lists:
            raise FilterMismatch(f"field {field.path!r} is not an array; its type is {_describe(field)}")
        if not condition.operator.startswith("item_"):
            return
        operand_type = _type_of(condition.value)
    if operand_type not in allowed:
        is_item = condition.type == "array"
        problem = f"its items are not {operand_type}" if is_item else f"the condition has type {operand_type!r}"
        raise FilterMismatch(f"field {field.path!r} has type {_describe(field)}, but {problem}")


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"


def _describe(field: FilterField) -> str:
    kind = field.type if field.type in SCALAR_TYPES else {"json": "JSON (type string)", "object": "objects"}[field.type]
    return f"an array of {kind}" if field.lists else kind
