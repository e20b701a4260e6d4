"""Prompts: create, read, change, delete, and hold an example against a schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptreel.schemas.wire.common import Message
from promptreel.schemas.wire.prompts import PromptBody, PromptList, PromptUsage, SchemaVerdict
from promptreel.sdk.calls import prompts as calls
from promptreel.sdk.resources.base import AsyncResource, Resource


class Prompts(Resource):
    """Prompts: create, read, change, delete, and hold an example against a schema."""

    def create(
        self,
        name: str,
        prompt_text: str,
        json_schema: Mapping[str, Any],
        *,
        description: str | None = None,
        video_level: Mapping[str, Any] | None = None,
        semantic_indexing: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> PromptBody:
        """Creates a prompt.

        Args:
            prompt_text: what is asked of every segment.
            json_schema: the fields of an answer; its root has the type "object".
            video_level: `instructions_text`, `included_segment_fields` and `json_schema` of a synthesis over each item.
            semantic_indexing: `disabled_segment_fields` and `disabled_video_level_fields`, which are not embedded.
        """
        return self._send(
            calls.create(
                name,
                prompt_text,
                json_schema,
                description=description,
                video_level=video_level,
                semantic_indexing=semantic_indexing,
                idempotency_key=idempotency_key,
            )
        )

    def retrieve(self, prompt_id: str) -> PromptBody:
        """Gives a prompt."""
        return self._send(calls.retrieve(prompt_id))

    def list(self, *, active_only: bool = True, include_defaults: bool = True) -> PromptList:
        """Gives all prompts, newest first."""
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
        clear_video_level: bool = False,
        is_active: bool | None = None,
        idempotency_key: str | None = None,
    ) -> PromptBody:
        """Changes a prompt: only what is given. Runs keep the prompt as it was when they were started.

        Args:
            description: "" removes it.
            clear_video_level: removes the synthesis.

        Raises:
            ValueError: nothing is given.
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
                clear_video_level=clear_video_level,
                is_active=is_active,
                idempotency_key=idempotency_key,
            )
        )

    def delete(self, prompt_id: str, *, force: bool = False) -> Message:
        """Deletes a prompt; one that runs have used is deactivated instead, and only with `force`."""
        return self._send(calls.delete(prompt_id, force=force))

    def usage(self, prompt_id: str) -> PromptUsage:
        """Says whether runs have used a prompt."""
        return self._send(calls.usage(prompt_id))

    def test_schema(self, json_schema: Mapping[str, Any], sample_data: Any) -> SchemaVerdict:
        """Holds an example against a schema; one that does not fit is an answer (`valid` false), not an error."""
        return self._send(calls.test_schema(json_schema, sample_data))


class AsyncPrompts(AsyncResource):
    """Prompts: create, read, change, delete, and hold an example against a schema."""

    async def create(
        self,
        name: str,
        prompt_text: str,
        json_schema: Mapping[str, Any],
        *,
        description: str | None = None,
        video_level: Mapping[str, Any] | None = None,
        semantic_indexing: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> PromptBody:
        """Creates a prompt.

        See `Prompts.create`.
        """
        return await self._send(
            calls.create(
                name,
                prompt_text,
                json_schema,
                description=description,
                video_level=video_level,
                semantic_indexing=semantic_indexing,
                idempotency_key=idempotency_key,
            )
        )

    async def retrieve(self, prompt_id: str) -> PromptBody:
        """Gives a prompt."""
        return await self._send(calls.retrieve(prompt_id))

    async def list(self, *, active_only: bool = True, include_defaults: bool = True) -> PromptList:
        """Gives all prompts, newest first."""
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
        clear_video_level: bool = False,
        is_active: bool | None = None,
        idempotency_key: str | None = None,
    ) -> PromptBody:
        """Changes a prompt: only what is given. Runs keep the prompt as it was when they were started.

        See `Prompts.update`.
        """
        return await self._send(
            calls.update(
                prompt_id,
                name=name,
                prompt_text=prompt_text,
                json_schema=json_schema,
                description=description,
                video_level=video_level,
                semantic_indexing=semantic_indexing,
                clear_video_level=clear_video_level,
                is_active=is_active,
                idempotency_key=idempotency_key,
            )
        )

    async def delete(self, prompt_id: str, *, force: bool = False) -> Message:
        """Deletes a prompt; one that runs have used is deactivated instead, and only with `force`."""
        return await self._send(calls.delete(prompt_id, force=force))

    async def usage(self, prompt_id: str) -> PromptUsage:
        """Says whether runs have used a prompt."""
        return await self._send(calls.usage(prompt_id))

    async def test_schema(self, json_schema: Mapping[str, Any], sample_data: Any) -> SchemaVerdict:
        """Holds an example against a schema; one that does not fit is an answer (`valid` false), not an error."""
        return await self._send(calls.test_schema(json_schema, sample_data))
