"""Filter search: conditions on typed fields, groups of conditions, and pages of hits.

`conditions` is the public API's form: one to four conditions, combined with AND. `groups` is an extension: nested
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

MAX_DEPTH: Final = 5  # nesting of groups
MAX_CONDITIONS: Final = 100  # total over all groups
_MAX_RUNS: Final = 200


def _check_text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("contains a lone surrogate; remove it") from error
    return value


def _check_finite(value: float) -> float:
    try:
        if math.isfinite(float(value)):
            return value
    except OverflowError:
        pass
    raise ValueError("must be a finite number")


Text = Annotated[StrictStr, Field(min_length=1, max_length=10_000), AfterValidator(_check_text)]
Int64 = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
Finite = Annotated[StrictInt | StrictFloat, AfterValidator(_check_finite)]
Length = Annotated[StrictInt, Field(ge=0, lt=2**63)]
Compare = Literal["equals", "greater_than", "greater_equal", "less_than", "less_equal"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class _Condition(_Strict):
    """A condition on a field; it holds if any value of the field meets it.

    Attributes:
        field: canonical path, e.g. `scene.location`, `people[].name`, `tags` (or `tags[]`).
    """

    field: Annotated[Text, Field(max_length=1000), AfterValidator(str.strip)]


class TextCondition(_Condition):
    """A case-insensitive text comparison."""

    type: Literal["string"]
    operator: Literal["equals", "contains", "starts_with", "ends_with"]
    value: Text


class IntegerCondition(_Condition):
    """A comparison with an integer."""

    type: Literal["integer"]
    operator: Compare
    value: Int64


class NumberCondition(_Condition):
    """A comparison with a number."""

    type: Literal["number"]
    operator: Compare
    value: Finite


class BooleanCondition(_Condition):
    """A comparison with true or false."""

    type: Literal["boolean"]
    operator: Literal["equals"]
    value: StrictBool


class ItemEquals(_Condition):
    """An array contains a value."""

    type: Literal["array"]
    operator: Literal["item_equals"]
    value: Text | StrictBool | Int64 | Annotated[StrictFloat, AfterValidator(_check_finite)]


class ItemContains(_Condition):
    """An array has a text item that contains a substring."""

    type: Literal["array"]
    operator: Literal["item_contains"]
    value: Text


class ArrayLength(_Condition):
    """A comparison of an array's length."""

    type: Literal["array"]
    operator: Literal["length_equals", "length_greater", "length_less"]
    value: Length


class Emptiness(_Condition):
    """Whether a field has no value, blank text or an empty array. `value` is not allowed."""

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


def _condition_tag(value: Any) -> str | None:
    """Return the tag of the condition's model; None if its type and operator do not match."""
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


_OPERATOR_LIST: Final = "; ".join(f"{kind}: {', '.join(operators)}" for kind, operators in OPERATORS.items())

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
        _condition_tag,
        custom_error_type="unknown_condition",
        custom_error_message=f"must have a field, a type, and an operator of that type ({_OPERATOR_LIST})",
    ),
]


class AnyOf(_Strict):
    """At least one of the conditions holds."""

    any: list[FilterNode] = Field(min_length=1, max_length=MAX_CONDITIONS)


class AllOf(_Strict):
    """All of the conditions hold."""

    all: list[FilterNode] = Field(min_length=1, max_length=MAX_CONDITIONS)


class NotThis(_Strict):
    """The condition does not hold."""

    not_: FilterNode = Field(alias="not")


def _node_tag(value: Any) -> str:
    if isinstance(value, dict):
        return next((key for key in ("any", "all", "not") if key in value), "condition")
    tags: dict[Any, str] = {AnyOf: "any", AllOf: "all", NotThis: "not"}
    return tags.get(type(value), "condition")


FilterNode = Annotated[
    Annotated[AnyOf, Tag("any")]
    | Annotated[AllOf, Tag("all")]
    | Annotated[NotThis, Tag("not")]
    | Annotated[Condition, Tag("condition")],
    Discriminator(_node_tag),
]


class FilterSearch(_Strict):
    """A filter search. Unknown keys are rejected, as a misspelt key would match too many segments.

    Attributes:
        conditions: one to four conditions, combined with AND.
        groups: additional conditions and groups, combined with AND: `{"any": [...]}`, `{"all": [...]}`,
            `{"not": {...}}`; nested at most 5 deep, with at most 100 conditions in total.
        cursor: `next_page_token` of the previous page.
        run_ids: runs to search; default: the newest finished run of each prompt for each item.
        index_ids: indexes to search instead of the one in the path.
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
            raise ValueError("conditions: missing; set one to four conditions, or groups")
        if sum(1 for _ in conditions_of(self.groups or [])) > MAX_CONDITIONS:
            raise ValueError(f"groups: must contain at most {MAX_CONDITIONS} conditions")
        if _depth(self.groups or []) > MAX_DEPTH:
            raise ValueError(f"groups: must be nested at most {MAX_DEPTH} levels deep")
        return self


def parts_of(node: Any) -> list[Any]:
    """Return the direct children of a group; a condition has none."""
    if isinstance(node, AnyOf):
        return list(node.any)
    if isinstance(node, AllOf):
        return list(node.all)
    return [node.not_] if isinstance(node, NotThis) else []


def conditions_of(nodes: list[Any]) -> Iterator[Any]:
    """Yield the conditions in these nodes, at any depth."""
    for node in nodes:
        if isinstance(node, AnyOf | AllOf | NotThis):
            yield from conditions_of(parts_of(node))
        else:
            yield node


def _depth(nodes: list[Any]) -> int:
    return max((1 + _depth(parts_of(node)) for node in nodes if isinstance(node, AnyOf | AllOf | NotThis)), default=0)


class FilterHit(HitBody):
    """A segment that meets the conditions. Filter hits have no scores.

    Attributes:
        matched_field_paths: fields of the conditions that are combined with AND.
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
    """One page of hits, in the two formats that clients read.

    Attributes:
        results: the same as `data`.
        next_page_token: the same as `pagination.next_cursor`.
        total_shown: number of hits on this page.
    """

    results: list[FilterHit]
    next_page_token: str | None = None
    total_shown: int


for _model in (AnyOf, AllOf, NotThis, FilterSearch):
    _model.model_rebuild()
