"""Shared bodies: markers, pages, errors, and base classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError

from promptreel.schemas.spelling import describe_unknown

Item = TypeVar("Item")

_MAX_LEVELS = 64
_MAX_NAME_CHARS = 100  # of a key in a message
_MAX_PATH_PARTS = 8
_MAX_NAMED = 20  # unknown fields in a message


def storable(value: Any, levels: int = _MAX_LEVELS) -> Any:
    """Return a JSON value if every supported database and client can store it.

    Raises:
        ValueError: the value contains NUL, a lone surrogate, an integer beyond 64 bits, NaN or Infinity, or is nested
            too deeply; the message starts with the path to it.
    """
    problem = _problem_of(value, levels)
    if problem is not None:
        path, reason = problem
        raise ValueError(f"{'.'.join(path[:_MAX_PATH_PARTS])}: {reason}" if path else reason)
    return value


def _problem_of(value: Any, levels: int) -> tuple[tuple[str, ...], str] | None:
    """Return the path and the reason of the first part that cannot be stored."""
    if levels == 0:
        return (), f"is nested deeper than {_MAX_LEVELS} levels; flatten it"
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in parts:
            if (problem := _problem_of(name, levels - 1)) is not None:
                return problem
            if (problem := _problem_of(part, levels - 1)) is not None:
                return (str(name)[:_MAX_NAME_CHARS], *problem[0]), problem[1]
    elif isinstance(value, str) and ("\0" in value or not _is_utf_8(value)):
        return (), "contains a NUL character or a lone surrogate; remove it"
    elif isinstance(value, float) and not math.isfinite(value):
        return (), "contains NaN or Infinity; use a finite number or null"
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        return (), "contains an integer beyond 64 bits; use a smaller number or text"
    return None


def _is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


StorableText = Annotated[str, AfterValidator(storable)]


class WireModel(BaseModel):
    """Base class of responses."""

    model_config = ConfigDict(protected_namespaces=())


class RequestModel(BaseModel):
    """Base class of request bodies. Unknown fields have no effect, as other API versions may define them; see
    `unknown_fields`."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _check_storable(cls, values: Any) -> Any:
        return storable(values)

    def unknown_fields(self) -> list[str]:
        """Return a warning for each field of the request that this version does not know and that is not null."""
        return ignored_fields(type(self), self.model_extra or {})


def ignored_fields(model: type[BaseModel], values: Mapping[str, Any]) -> list[str]:
    """Return a warning for each value, other than null, that a model has no field for."""
    known = model.model_fields
    unknown = [name for name, value in values.items() if name not in known and value is not None]
    return [f"ignored: {describe_unknown(name, known)}" for name in unknown[:_MAX_NAMED]]


class NullIsAbsent(RequestModel):
    """Base class of request bodies in which null means absent.

    Clients send null for fields that they leave to the server. The OpenAPI schema therefore allows null.
    """

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if value is not None}
        return values

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        required = schema.get("required", ())
        for name, part in schema.get("properties", {}).items():
            if name not in required and {"type": "null"} not in part.get("anyOf", ()):
                schema["properties"][name] = {"anyOf": [part, {"type": "null"}]}
        return reference


class ClosedModel(NullIsAbsent):
    """Base class of request bodies, and parts of them, that reject unknown fields: without the field that was meant,
    the request would do more, and cost more, than its caller wants.

    Attributes:
        elsewhere: hint for a field that a similar body has, by name.
    """

    model_config = ConfigDict(extra="forbid")

    elsewhere: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _check_known(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        unknown = [name for name, value in values.items() if name not in cls.model_fields and value is not None]
        if unknown:
            reasons = [cls._reason(name) for name in unknown[:_MAX_NAMED]]
            raise PydanticCustomError("unknown_field", "{message}", {"message": "; ".join(reasons), "fields": unknown})
        return values

    @classmethod
    def _reason(cls, name: str) -> str:
        if name in cls.elsewhere:
            return f"{name} does not apply here; {cls.elsewhere[name]}"
        return describe_unknown(name, cls.model_fields)


class Marker(WireModel):
    """A user's marker on a resource; all fields are null without one."""

    marker_id: str | None = None
    color: str | None = None
    note: str | None = None
    updated_at: str | None = None


class Pagination(WireModel):
    """Position in a paged list. `next_cursor` is set if and only if `has_more` is true."""

    limit: int
    has_more: bool
    next_cursor: str | None = None


class Page(WireModel, Generic[Item]):
    """One page of a list."""

    data: list[Item]
    pagination: Pagination


class RunPage(Page[Item], Generic[Item]):
    """One page of the segments of an item in a run.

    Attributes:
        run_status: status of the run.
        is_complete: whether all segments of the item are finished; False while the run may still add or change some.
    """

    run_status: str | None = None
    is_complete: bool = True


class Message(WireModel):
    """A confirmation of the performed action."""

    message: str


class ErrorBody(WireModel):
    """An error.

    Attributes:
        code: stable error code for programs.
        message: description for people, with the invalid value and the fix.
        details: structured details for programs.
        request_id: identifies the request in the server's log.
    """

    code: str
    message: str
    details: dict[str, Any] | None = None
    request_id: str | None = None
    timestamp: str | None = None


class ErrorResponse(WireModel):
    """The body of every error response."""

    error: ErrorBody


class DeletionStatus(WireModel):
    """The progress of a deletion."""

    deletion_id: str
    status: str = Field(description="draining, deleting or deleted")
    retry_after_seconds: int | None = None
    message: str = ""
    index_id: str | None = None
    video_id: str | None = None
