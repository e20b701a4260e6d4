"""Prompts: create, read, update, delete, and test schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptreel.schemas.wire.common import Message
from promptreel.schemas.wire.prompts import PromptBody, PromptList, PromptUsage, SchemaVerdict
from promptreel.sdk.request import Call, Request, key_for, omit_none, path_of


def create(
    name: str,
    prompt_text: str,
    json_schema: Mapping[str, Any],
    *,
    description: str | None = None,
    video_level: Mapping[str, Any] | None = None,
    semantic_indexing: Mapping[str, Any] | None = None,
    media: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Call[PromptBody]:
    """Create a prompt."""
    body = omit_none(
        name=name,
        prompt_text=prompt_text,
        json_schema=json_schema,
        description=description,
        video_level=video_level,
        semantic_indexing=semantic_indexing,
        media=media,
    )
    key = key_for("prompt-create", idempotency_key)
    return Call(Request("POST", "/prompts", json=body, idempotency=key), PromptBody)


def retrieve(prompt_id: str) -> Call[PromptBody]:
    """Get a prompt."""
    return Call(Request("GET", path_of("prompts", prompt_id)), PromptBody)


def list_prompts(*, active_only: bool = True, include_defaults: bool = True) -> Call[PromptList]:
    """List all prompts, newest first."""
    params = {"active_only": active_only, "include_defaults": include_defaults}
    return Call(Request("GET", "/prompts", params), PromptList)


def update(
    prompt_id: str,
    *,
    name: str | None = None,
    prompt_text: str | None = None,
    json_schema: Mapping[str, Any] | None = None,
    description: str | None = None,
    video_level: Mapping[str, Any] | None = None,
    semantic_indexing: Mapping[str, Any] | None = None,
    media: Mapping[str, Any] | None = None,
    clear_video_level: bool = False,
    is_active: bool | None = None,
    idempotency_key: str | None = None,
) -> Call[PromptBody]:
    """Update only the specified fields of a prompt.

    Raises:
        ValueError: no field is specified.
    """
    body = omit_none(
        name=name,
        prompt_text=prompt_text,
        json_schema=json_schema,
        description=description,
        video_level=video_level,
        semantic_indexing=semantic_indexing,
        media=media,
        clear_video_level=clear_video_level or None,
        is_active=is_active,
    )
    if not body:
        raise ValueError(f"the update of prompt {prompt_id} has no fields to change; pass at least one")
    key = key_for("prompt-update", idempotency_key)
    return Call(Request("PUT", path_of("prompts", prompt_id), json=body, idempotency=key), PromptBody)


def delete(prompt_id: str, *, force: bool = False) -> Call[Message]:
    """Delete a prompt. A prompt that runs have used is deactivated instead, which requires `force`."""
    return Call(Request("DELETE", path_of("prompts", prompt_id), {"force": force}), Message)


def usage(prompt_id: str) -> Call[PromptUsage]:
    """Check whether runs have used a prompt."""
    return Call(Request("GET", path_of("prompts", prompt_id, "usage")), PromptUsage)


def test_schema(json_schema: Mapping[str, Any], sample_data: Any) -> Call[SchemaVerdict]:
    """Validate sample data against a schema. A mismatch returns `valid` false; it does not raise."""
    body = {"json_schema": json_schema, "sample_data": sample_data}
    return Call(Request("POST", "/prompts/test-schema", json=body), SchemaVerdict)
