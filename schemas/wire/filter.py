"""Filter search: conditions on typed fields, groups of them, and the page of hits.

`conditions` is the public API's form: one to four of them, all of which must hold. `groups` goes beyond it: nested
`all`, `any` and `not`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    model_validator,
)

from promptreel.schemas.wire.common import Page
from promptreel.schemas.wire.hits import HitBody

MAX_DEPTH: Final = 5  # of groups inside groups
MAX_CONDITIONS: Final = 100  # in all groups together
_MAX_RUNS: Final = 200


def _is_text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds half a surrogate pair, which is no text") from error
    return value


def _is_finite(value: float) -> float:
    try:
        if math.isfinite(float(value)):
            return value
    except OverflowError:
        pass
    raise ValueError("must be a finite number")


Text = Annotated[StrictStr, Field(min_length=1, max_length=10_000), AfterValidator(_is_text)]
Whole = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
Finite = Annotated[StrictInt | StrictFloat, AfterValidator(_is_finite)]
Length = Annotated[StrictInt, Field(ge=0, lt=2**63)]
Compare = Literal["equals", "greater_than", "greater_equal", "less_than", "less_equal"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class _Condition(_Strict):
    """One condition on one field; any value of the field that meets it is enough.

    Attributes:
        field: canonical path, e.g. `scene.location`, `people[].name`, `tags` (or `tags[]`).
    """

    field: Annotated[Text, Field(max_length=1000), AfterValidator(str.strip)]


class TextCondition(_Condition):
    """A comparison of text; case does not count."""

    type: Literal["string"]
    operator: Literal["equals", "contains", "starts_with", "ends_with"]
    value: Text


class IntegerCondition(_Condition):
    """A comparison with a whole number."""

    type: Literal["integer"]
    operator: Compare
    value: Whole


class NumberCondition(_Condition):
    """A comparison with a number."""

    type: Literal["number"]
    operator: Compare
    value: Finite


class BooleanCondition(_Condition):
    """True or false."""

    type: Literal["boolean"]
    operator: Literal["equals"]
    value: StrictBool


class ItemEquals(_Condition):
    """An array that holds a value."""

    type: Literal["array"]
    operator: Literal["item_equals"]
    value: Text | StrictBool | Whole | Annotated[StrictFloat, AfterValidator(_is_finite)]


class ItemContains(_Condition):
    """An array of text with an item that holds some text."""

    type: Literal["array"]
    operator: Literal["item_contains"]
    value: Text


class ArrayLength(_Condition):
    """An array of some length."""

    type: Literal["array"]
    operator: Literal["length_equals", "length_greater", "length_less"]
    value: Length


class Emptiness(_Condition):
    """Whether a field has any value at all: text that is not blank, an array with an item. There is no `value`."""

    type: Literal["string", "array"]
    operator: Literal["is_empty", "is_not_empty"]


OPERATORS: Final[dict[str, tuple[str, ...]]] = {
    "string": ("equals", "contains", "starts_with", "ends_with", "is_empty", "is_not_empty"),
    "integer": ("equals", "greater_than", "greater_equal", "less_than", "less_equal"),
    "number": ("equals", "greater_than", "greater_equal", "less_than", "less_equal"),
    "boolean": ("equals",),
    "array": (
        "item_equals",
        "item_contains",
        "length_equals",
        "length_greater",
        "length_less",
        "is_empty",
        "is_not_empty",
    ),
}
_BY_TYPE: Final = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}


def _kind_of_condition(value: Any) -> str | None:
    """Which model reads a condition; None where its type and operator do not go together."""
    kind, operator = (
        (value.get("type"), value.get("operator"))
        if isinstance(value, dict)
        else (getattr(value, "type", None), getattr(value, "operator", None))
    )
    if not isinstance(kind, str) or not isinstance(operator, str) or operator not in OPERATORS.get(kind, ()):
        return None
    if operator.startswith("is_"):
        return "emptiness"
    if kind == "array":
        return operator if operator.startswith("item_") else "length"
    return _BY_TYPE[kind]


_SORTS: Final = "; ".join(f"{kind}: {', '.join(operators)}" for kind, operators in OPERATORS.items())

Condition = Annotated[
    Annotated[TextCondition, Tag("text")]
    | Annotated[IntegerCondition, Tag("integer")]
    | Annotated[NumberCondition, Tag("number")]
    | Annotated[BooleanCondition, Tag("boolean")]
    | Annotated[ItemEquals, Tag("item_equals")]
    | Annotated[ItemContains, Tag("item_contains")]
    | Annotated[ArrayLength, Tag("length")]
    | Annotated[Emptiness, Tag("emptiness")],
    Discriminator(
        _kind_of_condition,
        custom_error_type="unknown_condition",
        custom_error_message=f"needs a field, and a type with one of its operators ({_SORTS})",
    ),
]


class AnyOf(_Strict):
    """At least one of these holds."""

    any: list[FilterNode] = Field(min_length=1, max_length=MAX_CONDITIONS)


class AllOf(_Strict):
    """All of these hold."""

    all: list[FilterNode] = Field(min_length=1, max_length=MAX_CONDITIONS)


class NotThis(_Strict):
    """This does not hold."""

    not_: FilterNode = Field(alias="not")


def _kind_of_node(value: Any) -> str:
    if isinstance(value, dict):
        return next((key for key in ("any", "all", "not") if key in value), "condition")
    kinds: dict[Any, str] = {AnyOf: "any", AllOf: "all", NotThis: "not"}
    return kinds.get(type(value), "condition")


FilterNode = Annotated[
    Annotated[AnyOf, Tag("any")]
    | Annotated[AllOf, Tag("all")]
    | Annotated[NotThis, Tag("not")]
    | Annotated[Condition, Tag("condition")],
    Discriminator(_kind_of_node),
]


class FilterSearch(_Strict):
    """What a filter search asks for. Unknown keys are refused: a misspelt one would find too much.

    Attributes:
        conditions: one to four, all of which must hold.
        groups: conditions and groups of any number that must hold too; `{"any": [...]}`, `{"all": [...]}`,
            `{"not": {...}}`, at most 5 deep and 100 conditions in all.
        cursor: `next_page_token` of the page before.
        run_ids: runs whose results are searched; without it the newest finished run of each prompt over each item.
        index_ids: indexes that are searched instead of that of the path.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"conditions": [{"field": "headline", "type": "string", "operator": "contains", "value": "crane"}]}
            ]
        }
    )

    conditions: list[Condition] | None = Field(default=None, min_length=1, max_length=4)
    groups: list[FilterNode] | None = Field(default=None, min_length=1, max_length=MAX_CONDITIONS)
    page_size: Annotated[StrictInt, Field(ge=1, le=100)] = 50
    cursor: Annotated[StrictStr, Field(max_length=65_536)] | None = None
    run_ids: list[Text] | None = Field(default=None, min_length=1, max_length=_MAX_RUNS)
    index_ids: list[Text] | None = Field(default=None, min_length=1, max_length=100)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if value is not None}
        return values

    @model_validator(mode="after")
    def _is_bounded(self) -> FilterSearch:
        if not self.conditions and not self.groups:
            raise ValueError("conditions: give one to four conditions (or groups)")
        if sum(1 for _ in conditions_of(self.groups or [])) > MAX_CONDITIONS:
            raise ValueError(f"groups: hold more than {MAX_CONDITIONS} conditions")
        if _depth(self.groups or []) > MAX_DEPTH:
            raise ValueError(f"groups: are nested deeper than {MAX_DEPTH}")
        return self


def parts_of(node: Any) -> list[Any]:
    """The nodes directly inside a group; none of a condition."""
    if isinstance(node, AnyOf):
        return list(node.any)
    if isinstance(node, AllOf):
        return list(node.all)
    return [node.not_] if isinstance(node, NotThis) else []


def conditions_of(nodes: list[Any]) -> Iterator[Any]:
    """Every condition of some nodes, at any depth."""
    for node in nodes:
        if isinstance(node, AnyOf | AllOf | NotThis):
            yield from conditions_of(parts_of(node))
        else:
            yield node


def _depth(nodes: list[Any]) -> int:
    return max((1 + _depth(parts_of(node)) for node in nodes if isinstance(node, AnyOf | AllOf | NotThis)), default=0)


class FilterHit(HitBody):
    """A segment that meets the conditions. There are no scores: it does or it does not.

    Attributes:
        matched_field_paths: fields of the conditions that all had to hold.
    """

    result_type: Literal["segment"] = "segment"
    segment_id: str
    start_time: float
    end_time: float
    similarity_score: None = None
    reranked_score: None = None
    field_scores: None = None
    field_instance_scores: None = None
    matched_field_instances: None = None


class FilterPage(Page[FilterHit]):
    """One page of hits, in both shapes that clients read.

    Attributes:
        results: the same as `data`.
        next_page_token: the same as `pagination.next_cursor`.
        total_shown: hits on this page.
    """

    results: list[FilterHit]
    next_page_token: str | None = None
    total_shown: int


for _model in (AnyOf, AllOf, NotThis, FilterSearch):
    _model.model_rebuild()
