"""Indexes: collections of media."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from promptreel.schemas.wire.common import RequestModel, WireModel


class IndexBody(WireModel):
    """A collection of media, independent of prompts."""

    index_id: str
    name: str
    user_id: str
    created_at: str
    is_default: bool = False
    description: str | None = None
    sort_order: int | None = None


class CreateIndex(RequestModel):
    """The index to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "spring campaign"}]})

    name: str = Field(min_length=1, max_length=255)
    description: str | None = Field(default=None, max_length=2000)
