"""What several bodies share: markers, pages, errors, and the base of request bodies."""

from __future__ import annotations

import math
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

Item = TypeVar("Item")

_MAX_LEVELS = 64


def storable(value: Any, levels: int = _MAX_LEVELS) -> Any:
    """A JSON value, unless it holds what some database or client cannot: NUL, lone surrogates, numbers beyond 64 bits or
    that are none, or very many levels.

    Raises:
        ValueError: naming what it holds.
    """
    if levels == 0:
        raise ValueError(f"is nested deeper than {_MAX_LEVELS} levels")
    if isinstance(value, str):
        if "\0" in value or not _is_utf_8(value):
            raise ValueError("holds a NUL or half of a surrogate pair")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("holds a number that is none (NaN, Infinity)")
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError("holds a whole number beyond 64 bits")
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
    """Base of answers."""

    model_config = ConfigDict(protected_namespaces=())


class RequestModel(BaseModel):
    """Base of request bodies; fields that other versions of the API know are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _can_be_stored(cls, values: Any) -> Any:
        return storable(values)


class NullIsAbsent(RequestModel):
    """Base of request bodies in which null means the same as nothing, for clients send it for what they leave to the
    server; the description says so."""

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
    """A user's mark on a resource; all null where there is none."""

    marker_id: str | None = None
    color: str | None = None
    note: str | None = None
    updated_at: str | None = None


class Pagination(WireModel):
    """Where a page ends. `next_cursor` is set exactly when `has_more` is true."""

    limit: int
    has_more: bool
    next_cursor: str | None = None


class Page(WireModel, Generic[Item]):
    """One page of a list."""

    data: list[Item]
    pagination: Pagination


class Message(WireModel):
    """An answer that only says what was done."""

    message: str


class ErrorBody(WireModel):
    """What went wrong.

    Attributes:
        code: a word for programs.
        message: a sentence for people, with the value and the fix.
        details: more for programs.
        request_id: names the request in the server's log.
    """

    code: str
    message: str
    details: dict[str, Any] | None = None
    request_id: str | None = None
    timestamp: str | None = None


class ErrorResponse(WireModel):
    """The body of every answer that is no success."""

    error: ErrorBody


class DeletionStatus(WireModel):
    """How far a deletion is."""

    deletion_id: str
    status: str = Field(description="draining, deleting or deleted")
    retry_after_seconds: int | None = None
    message: str = ""
    index_id: str | None = None
    video_id: str | None = None
