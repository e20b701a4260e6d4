"""Shared bodies: markers, pages, errors, and base classes."""

from __future__ import annotations

import math
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

Item = TypeVar("Item")

_MAX_LEVELS = 64


def storable(value: Any, levels: int = _MAX_LEVELS) -> Any:
    """Return a JSON value if every supported database and client can store it.

    Raises:
        ValueError: the value contains NUL, a lone surrogate, an integer beyond 64 bits, NaN or Infinity, or is nested
            too deeply.
    """
    if levels == 0:
        raise ValueError(f"is nested deeper than {_MAX_LEVELS} levels; flatten it")
    if isinstance(value, str):
        if "\0" in value or not _is_utf_8(value):
            raise ValueError("contains a NUL character or a lone surrogate; remove it")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("contains NaN or Infinity; use a finite number or null")
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError("contains an integer beyond 64 bits; use a smaller number or text")
    elif isinstance(value, dict):
        for key, part in value.items():
            storable(key, levels - 1)
            storable(part, levels - 1)
    elif isinstance(value, list):
        for part in value:
            storable(part, levels - 1)
    return value


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
    """Base class of request bodies; unknown fields are ignored, as other API versions may define them."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _check_storable(cls, values: Any) -> Any:
        return storable(values)


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
