"""Filter conditions as DuckDB SQL over the typed `fields` struct of a run's results.

Values travel as parameters; the only names in the text are those of the prompt's own schema, quoted. Every expression is
true or false, never null, so that `not` is the exact complement.
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

_COMPARE: Final = {
    "equals": "=",
    "greater_than": ">",
    "greater_equal": ">=",
    "less_than": "<",
    "less_equal": "<=",
    "length_equals": "=",
    "length_greater": ">",
    "length_less": "<",
}
_TEXT: Final = {
    "equals": "lower({value}) = lower({given})",
    "contains": "contains(lower({value}), lower({given}))",
    "starts_with": "starts_with(lower({value}), lower({given}))",
    "ends_with": "suffix(lower({value}), lower({given}))",
}
_EACH: Final = None  # a step from a list to its elements

FieldType = Literal["string", "integer", "number", "boolean", "json", "object"]


class FilterMismatch(InvalidInput):
    """A field is not in a prompt's schema, or holds another type than a condition asks for."""


@dataclass(frozen=True, slots=True)
class FilterField:
    """One field that conditions can name.

    Attributes:
        type: type of one value; "object" for the elements of an array of objects, which have no value themselves.
        steps: from the root to the field: a key, or None for each element of a list. They end at the field's own list
            where it is one.
        lists: how many lists the field's own value is made of; 0 for a plain value.
        system: `metadata_text` or `transcription`, which lie beside the answer.
    """

    path: str
    type: FieldType
    steps: tuple[str | None, ...] = ()
    lists: int = 0
    system: bool = False


def filter_fields(prompt: Prompt, struct: Any = None) -> dict[str, FilterField]:
    """The fields of a prompt that conditions can name, by canonical path.

    Args:
        struct: DuckDB's type of the `fields` column. Its names are used in their order, for DuckDB renames keys that differ
            in nothing but case; None takes them from the schema.
    """
    found: dict[str, FilterField] = {}
    root = parse_schema(prompt.json_schema)
    _collect(root, "", (), struct, found)
    for name in SYSTEM_FIELDS:
        found[name] = FilterField(name, "string", system=True)
    return found


def find_field(fields: Mapping[str, FilterField], path: str) -> FilterField:
    """The field of a path; an array may be written with or without `[]` at its end.

    Raises:
        FilterMismatch: there is none; the message lists those that there are.
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
    """(SQL, its parameters by name) of conditions and groups, all of which must hold, over rows of `results`.

    Args:
        transcripts: SQL of the relation that holds `segment_id` and `text` of the transcripts.

    Raises:
        FilterMismatch: a field is unknown or of another type.
    """
    writer = _Writer(fields, transcripts)
    return " AND ".join(writer.node(node) for node in nodes), writer.parameters


def _collect(node: Node, path: str, steps: tuple[str | None, ...], struct: Any, found: dict[str, FilterField]) -> None:
    if node.kind == "object":
        named = [name for name, _ in struct.children] if struct is not None else [name for name, _ in node.fields]
        for at, (name, child) in enumerate(node.fields):
            inner = struct.children[at][1] if struct is not None else None
            _collect(child, f"{path}.{name}" if path else name, (*steps, named[at]), inner, found)
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
    """Writes expressions and collects their parameters."""

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
        given = self._given(condition.value)
        if condition.type == "string":
            return self._any_value(field, lambda value: _TEXT[operator].format(value=value, given=given))
        return self._any_value(field, lambda value: f"{value} {_COMPARE[operator]} {given}")

    def _array(self, field: FilterField, condition: Any) -> str:
        operator = condition.operator
        if operator == "is_empty":
            return f"(NOT {self._any_list(field, lambda length: f'{length} > 0')})"
        if operator == "is_not_empty":
            return self._any_list(field, lambda length: f"{length} > 0")
        given = self._given(condition.value)
        if operator.startswith("length_"):
            return self._any_list(field, lambda length: f"{length} {_COMPARE[operator]} {given}")
        if operator == "item_contains":
            return self._any_value(field, lambda value: _TEXT["contains"].format(value=value, given=given))
        if isinstance(condition.value, str):
            return self._any_value(field, lambda value: _TEXT["equals"].format(value=value, given=given))
        return self._any_value(field, lambda value: f"{value} = {given}")

    def _any_value(self, field: FilterField, test: Callable[[str], str]) -> str:
        """Whether a value of the field, in whatever lists it lies, meets a test."""
        if field.path == "transcription" and field.system:
            return f"segment_id IN (SELECT segment_id FROM {self._transcripts} WHERE {_surely(test('text'))})"
        if field.system:
            return _surely(test(quoted(field.path)))
        steps = (*field.steps, *[_EACH] * field.lists)
        if field.type == "json":
            return _any(quoted(FIELDS), steps, lambda value: test(f"({value} ->> '$')"), 0)
        return _any(quoted(FIELDS), steps, test, 0)

    def _any_list(self, field: FilterField, test: Callable[[str], str]) -> str:
        """Whether the length of one of the field's lists meets a test; an absent list has none."""
        return _any(quoted(FIELDS), field.steps, lambda value: test(f"coalesce(len({value}), 0)"), 0)

    def _given(self, value: Any) -> str:
        name = f"given{len(self.parameters)}"
        self.parameters[name] = value
        return f"${name}"


def _any(value: str, steps: Sequence[str | None], test: Callable[[str], str], depth: int) -> str:
    """Whether the test holds for one of the values behind some steps from a value."""
    for at, step in enumerate(steps):
        if step is _EACH:
            element = f"e{depth}"
            inner = _any(element, steps[at + 1 :], test, depth + 1)
            return _surely(f"len(list_filter({value}, lambda {element}: {inner})) > 0")
        value = f"{value}.{quoted(step)}"
    return _surely(test(value))


def _surely(expression: str) -> str:
    """An expression whose null counts as false."""
    return f"coalesce({expression}, false)"


def _is_not_blank(value: str) -> str:
    return f"regexp_matches({value}, '\\S')"


def _check_type(field: FilterField, condition: Any) -> None:
    """Refuses a condition that cannot hold for any value of the field."""
    holds = {"integer": ("integer", "number"), "number": ("integer", "number"), "json": ("string",), "object": ()}
    allowed = holds.get(field.type, (field.type,))
    wanted = condition.type
    if wanted == "array":
        if not field.lists:
            raise FilterMismatch(f"field {field.path!r} is no array; it holds {_says(field)}")
        if not condition.operator.startswith("item_"):
            return
        wanted = _type_of(condition.value)
    if wanted not in allowed:
        says = f"type {wanted!r} does not fit it" if condition.type != "array" else f"an item cannot be {wanted}"
        raise FilterMismatch(f"field {field.path!r} holds {_says(field)}; {says}")


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"


def _says(field: FilterField) -> str:
    kind = field.type if field.type in SCALAR_TYPES else {"json": "JSON (type string)", "object": "objects"}[field.type]
    return f"an array of {kind}" if field.lists else kind
