"""Prompts: create, read, update, delete, and test schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptreel.schemas.wire.common import Message
from promptreel.schemas.wire.prompts import PromptBody, PromptList, PromptUsage, SchemaVerdict
from promptreel.sdk.calls import prompts as calls
from promptreel.sdk.resources.base import AsyncResource, Resource


class Prompts(Resource):
    """Prompts: create, read, update, delete, and test schemas."""

    def create(
        self,
        name: str,
        prompt_text: str,
        json_schema: Mapping[str, Any],
        *,
        description: str | None = None,
        video_level: Mapping[str, Any] | None = None,
        semantic_indexing: Mapping[str, Any] | None = None,
        media: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> PromptBody:
        """Create a prompt.

        Args:
            prompt_text: instructions applied to every segment.
            json_schema: schema of the response; the root type must be "object".
            video_level: synthesis over each item: `instructions_text`, `included_segment_fields` and `json_schema`.
            semantic_indexing: fields to leave out of search: `disabled_segment_fields` and
                `disabled_video_level_fields`.
            media: what the answers need of a segment: `pictures_only`, `frames_per_segment` and `resolution`.
        """
        return self._send(
            calls.create(
                name,
                prompt_text,
                json_schema,
                description=description,
                video_level=video_level,
                semantic_indexing=semantic_indexing,
                media=media,
                idempotency_key=idempotency_key,
            )
        )

    def retrieve(self, prompt_id: str) -> PromptBody:
        """Get a prompt."""
        return self._send(calls.retrieve(prompt_id))

    def list(self, *, active_only: bool = True, include_defaults: bool = True) -> PromptList:
        """List all prompts, newest first."""
        return self._send(calls.list_prompts(active_only=active_only, include_defaults=include_defaults))

    def update(
        self,
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
    ) -> PromptBody:
        """Update only the specified fields of a prompt. A run uses the prompt as it was when the run started.

        Args:
            description: "" removes the description.
            clear_video_level: remove the synthesis.

        Raises:
            ValueError: no field is specified.
        """
        return self._send(
            calls.update(
                prompt_id,
                name=name,
                prompt_text=prompt_text,
                json_schema=json_schema,
                description=description,
                video_level=video_level,
                semantic_indexing=semantic_indexing,
                media=media,
                clear_video_level=clear_video_level,
                is_active=is_active,
                idempotency_key=idempotency_key,
            )
        )

    def delete(self, prompt_id: str, *, force: bool = False) -> Message:
        """Delete a prompt. A prompt that runs have used is deactivated instead, which requires `force`."""
        return self._send(calls.delete(prompt_id, force=force))

    def usage(self, prompt_id: str) -> PromptUsage:
        """Check whether runs have used a prompt."""
        return self._send(calls.usage(prompt_id))

    def test_schema(self, json_schema: Mapping[str, Any], sample_data: Any) -> SchemaVerdict:
        """Validate sample data against a schema. A mismatch returns `valid` false; it does not raise."""
        return self._send(calls.test_schema(json_schema, sample_data))


class AsyncPrompts(AsyncResource):
    """Prompts: create, read, update, delete, and test schemas."""

    async def create(
        self,
        name: str,
        prompt_text: str,
        json_schema: Mapping[str, Any],
        *,
        description: str | None = None,
        video_level: Mapping[str, Any] | None = None,
        semantic_indexing: Mapping[str, Any] | None = None,
        media: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> PromptBody:
        """Create a prompt; see `Prompts.create`."""
        return await self._send(
            calls.create(
                name,
                prompt_text,
                json_schema,
                description=description,
                video_level=video_level,
                semantic_indexing=semantic_indexing,
                media=media,
                idempotency_key=idempotency_key,
            )
        )

    async def retrieve(self, prompt_id: str) -> PromptBody:
        """Get a prompt."""
        return await self._send(calls.retrieve(prompt_id))

    async def list(self, *, active_only: bool = True, include_defaults: bool = True) -> PromptList:
        """List all prompts, newest first."""
        return await self._send(calls.list_prompts(active_only=active_only, include_defaults=include_defaults))

    async def update(
        self,
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
    ) -> PromptBody:
        """Update a prompt; see `Prompts.update`."""
        return await self._send(
            calls.update(
                prompt_id,
                name=name,
                prompt_text=prompt_text,
                json_schema=json_schema,
                description=description,
                video_level=video_level,
                semantic_indexing=semantic_indexing,
                media=media,
                clear_video_level=clear_video_level,
                is_active=is_active,
                idempotency_key=idempotency_key,
            )
        )

    async def delete(self, prompt_id: str, *, force: bool = False) -> Message:
        """Delete a prompt. A prompt that runs have used is deactivated instead, which requires `force`."""
        return await self._send(calls.delete(prompt_id, force=force))

    async def usage(self, prompt_id: str) -> PromptUsage:
        """Check whether runs have used a prompt."""
        return await self._send(calls.usage(prompt_id))

    async def test_schema(self, json_schema: Mapping[str, Any], sample_data: Any) -> SchemaVerdict:
        """Validate sample data against a schema. A mismatch returns `valid` false; it does not raise."""
        return await self._send(calls.test_schema(json_schema, sample_data))
