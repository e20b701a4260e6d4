"""Prompts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from promptreel.schemas.wire.common import ClosedModel, RequestModel, WireModel

_EXAMPLE: dict[str, Any] = {
    "name": "headlines",
    "description": "What happens.",
    "prompt_text": "Say in one sentence what happens.",
    "json_schema": {
        "type": "object",
        "properties": {"headline": {"type": "string"}},
        "required": ["headline"],
    },
    "video_level": {
        "instructions_text": "Sum the headlines up in one.",
        "included_segment_fields": ["headline"],
        "json_schema": {"type": "object", "properties": {"headline": {"type": "string"}}},
    },
}


class VideoLevelBody(ClosedModel):
    """The synthesis of one media item from its segments."""

    instructions_text: str = Field(min_length=1, max_length=12_000)
    included_segment_fields: list[str] = []
    json_schema: dict[str, Any]


class SemanticIndexingBody(ClosedModel):
    """Leaf fields that are extracted but left out of search, of vectors and of words."""

    disabled_segment_fields: list[str] = []
    disabled_video_level_fields: list[str] = []


class PromptMediaBody(ClosedModel):
    """What the answers need of a segment.

    Attributes:
        pictures_only: runs send a few chosen frames of a video's segment at low resolution, and no sound.
        frames_per_segment: send only this many frames of a video's segment, chosen by content.
        resolution: resolution at which the model processes frames and images.
    """

    pictures_only: bool = False
    frames_per_segment: int | None = Field(default=None, ge=1, le=300)
    resolution: Literal["low", "medium", "high", "ultra_high"] | None = None


class PromptBody(WireModel):
    """A stored prompt.

    Attributes:
        version: number of this content among those that prompts of this name had, from 1; null if the prompt is older than
            version numbers and has not been used or changed since.
        content_id: hash of the content; prompts with equal content have the same one.
    """

    prompt_id: str
    user_id: str
    name: str
    description: str
    prompt_text: str
    json_schema: dict[str, Any]
    video_level: VideoLevelBody | None
    semantic_indexing: SemanticIndexingBody
    media: PromptMediaBody | None = None
    is_active: bool
    created_at: str
    version: int | None = None
    content_id: str | None = None


class PromptList(WireModel):
    """The caller's prompts."""

    prompts: list[PromptBody]
    total_count: int
    active_count: int


class CreatePrompt(RequestModel):
    """The prompt to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: str = Field(min_length=3, max_length=100)
    description: str | None = Field(default="", max_length=500)
    prompt_text: str = Field(min_length=10, max_length=5000)
    json_schema: dict[str, Any]
    video_level: VideoLevelBody | None = None
    semantic_indexing: SemanticIndexingBody | None = None
    media: PromptMediaBody | None = None


class UpdatePrompt(RequestModel):
    """Changes to a prompt; missing fields stay unchanged."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"description": "What happens, and where."}]})

    name: str | None = Field(default=None, min_length=3, max_length=100)
    description: str | None = Field(default=None, max_length=500)
    prompt_text: str | None = Field(default=None, min_length=10, max_length=5000)
    json_schema: dict[str, Any] | None = None
    video_level: VideoLevelBody | None = None
    semantic_indexing: SemanticIndexingBody | None = None
    media: PromptMediaBody | None = None
    clear_video_level: bool | None = False
    is_active: bool | None = None


class TestSchema(RequestModel):
    """A JSON schema, and sample data to validate against it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"json_schema": _EXAMPLE["json_schema"], "sample_data": {"headline": "A crane lifts a box"}}]
        }
    )

    json_schema: dict[str, Any]
    sample_data: Any


class SchemaVerdict(WireModel):
    """The result of the validation."""

    valid: bool
    validated_data: dict[str, Any] | None
    error: str | None
    message: str


class PromptUsage(WireModel):
    """Whether any run uses the prompt."""

    prompt_id: str
    name: str
    is_active: bool
    is_in_use: bool
    created_at: str
    schema_properties_count: int = Field(ge=0)
