"""What several bodies share: markers, pages, errors, and the base of request bodies."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")


class WireModel(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(protected_namespaces=())


class RequestModel(BaseModel):
    """Base of request bodies; fields that other versions of the API know are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


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
        message: a sentence for people, with the value and the mend.
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
