"""Prompts."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from schemas.wire.common import RequestModel, WireModel


class VideoLevelBody(RequestModel):
    """The synthesis over one item's segments."""

    instructions_text: str
    included_segment_fields: list[str] = []
    json_schema: dict[str, Any]


class SemanticIndexingBody(RequestModel):
    """Leaf fields that are extracted but not embedded."""

    disabled_segment_fields: list[str] = []
    disabled_video_level_fields: list[str] = []


class PromptBody(WireModel):
    """A stored prompt."""

    prompt_id: str
    user_id: str
    name: str
    description: str
    prompt_text: str
    json_schema: dict[str, Any]
    video_level: VideoLevelBody | None
    semantic_indexing: SemanticIndexingBody
    is_active: bool
    created_at: str


class PromptList(WireModel):
    """All prompts of the caller."""

    prompts: list[PromptBody]
    total_count: int
    active_count: int


class CreatePrompt(RequestModel):
    """A new prompt."""

    name: str
    description: str | None = ""
    prompt_text: str
    json_schema: dict[str, Any]
    video_level: VideoLevelBody | None = None
    semantic_indexing: SemanticIndexingBody | None = None


class UpdatePrompt(RequestModel):
    """Changes of a prompt: only what is sent changes."""

    name: str | None = None
    description: str | None = None
    prompt_text: str | None = None
    json_schema: dict[str, Any] | None = None
    video_level: VideoLevelBody | None = None
    semantic_indexing: SemanticIndexingBody | None = None
    clear_video_level: bool | None = False
    is_active: bool | None = None


class TestSchema(RequestModel):
    """A schema and an example to hold against it."""

    json_schema: dict[str, Any]
    sample_data: Any


class SchemaVerdict(WireModel):
    """Whether the example fits."""

    valid: bool
    validated_data: dict[str, Any] | None
    error: str | None
    message: str


class PromptUsage(WireModel):
    """Whether runs use a prompt."""

    prompt_id: str
    name: str
    is_active: bool
    is_in_use: bool
    created_at: str
    schema_properties_count: int = Field(ge=0)
