"""Any server with OpenAI's chat completions API: OpenAI, OpenRouter, vLLM, Ollama, llama.cpp, LM Studio.

The rules are from the public API reference of OpenAI (chat completions, structured outputs, errors). What a server
supports of them is found out by its responses (`openai_dialect`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from promptreel.providers.base import ModelAnswer, ModelRequest, Provider
from promptreel.providers.gemini_schema import wire_schema
from promptreel.providers.openai_answer import message_of, model_error_of, read_answer
from promptreel.providers.openai_dialect import Dialect, response_format
from promptreel.providers.openai_media import media_parts
from promptreel.schemas.errors import ModelError, SettingsError
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.settings import ModelSettings, RunSettings

PREFIX: Final = "openai:"
KEY_VARIABLE: Final = "OPENAI_API_KEY"
DEFAULT_URL: Final = "https://api.openai.com/v1"
MEDIA_VERSION: Final = 1  # part of every operation's key; raise it when the parts for the same segment change
# Models that hear, by parts of their names. All others read the transcript.
_HEARING_NAMES: Final = ("audio", "omni", "gemini", "voxtral", "ultravox")
_MAX_DIALECTS: Final = 6  # one request tries at most this many


def build_provider(settings: RunSettings) -> OpenAIProvider:
    """Return the provider of a run's model; an entry point (`promptreel.providers.plugins`)."""
    return OpenAIProvider(settings.model)


class OpenAIProvider(Provider):
    """A model of an OpenAI-compatible server, named `openai:MODEL`."""

    def __init__(self, settings: ModelSettings) -> None:
        self.name = settings.model
        self._model = settings.model.removeprefix(PREFIX)
        self._settings = settings
        self._url = settings.base_url or DEFAULT_URL
        self._client: Any = None
        # Servers other than OpenAI's know max_tokens, and may ignore the newer name without an error.
        self._dialect = Dialect(token_limit="max_completion_tokens" if settings.base_url is None else "max_tokens")

    @property
    def dialect(self) -> Dialect:
        """What the server supports, as far as its responses have shown."""
        return self._dialect

    @property
    def takes_sound(self) -> bool:
        """Whether the model gets the sound itself; otherwise it gets the transcript."""
        return any(word in self._model.lower() for word in _HEARING_NAMES)

    def fingerprint(self) -> Mapping[str, Any]:
        settings = self._settings
        return {
            "provider": "openai",
            "media_version": MEDIA_VERSION,
            "model": self._model,
            "base_url": self._url.rstrip("/"),  # the same name can be another model on another server
            "media_resolution": settings.media_resolution,
            "temperature": settings.temperature,
            "thinking_level": settings.thinking_level,
        }

    def output_budget(self, request: ModelRequest) -> int:
        return self._settings.max_output_tokens * request.output_token_factor

    def reads_transcript(self, prompt: Prompt) -> bool:
        return not self.takes_sound

    def check_access(self) -> None:
        settings = self._settings
        if not self._model:
            raise SettingsError(f"model {self.name!r} has no name; use {PREFIX}NAME, e.g. {PREFIX}gpt-5-mini")
        if settings.base_url is None and not os.environ.get(KEY_VARIABLE):
            raise SettingsError(
                f"model {self.name!r} needs a key: set {KEY_VARIABLE}, or --base-url for a server that needs none"
            )
        if settings.media_input == "files":
            raise SettingsError("media_input is 'files', but OpenAI-compatible servers take frames; use frames")
        if settings.thinking_budget is not None:
            raise SettingsError(
                f"model {self.name!r} takes thinking_level, but thinking_budget is {settings.thinking_budget}; "
                "use --thinking-level (minimal, low, medium or high) instead"
            )
        if settings.vertex_project:
            raise SettingsError(f"model {self.name!r} is not on Vertex AI; remove --vertex-project")

    async def open(self) -> None:
        import openai

        key = os.environ.get(KEY_VARIABLE) or "none"  # local servers need no key, but the client does
        self._client = openai.AsyncOpenAI(api_key=key, base_url=self._url, max_retries=0, timeout=None)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def prepare(self, request: ModelRequest) -> list[Any]:
        """Return the media as parts of a message."""
        if request.media is None:
            return []
        resolution = self._settings.media_resolution
        return await asyncio.to_thread(media_parts, request.media, resolution, takes_sound=self.takes_sound)

    async def call(self, request: ModelRequest, prepared: Any) -> ModelAnswer:
        """Make one call; a request that the server rejects because of its form, at no cost, is sent in another form."""
        schema = wire_schema(request.json_schema)
        for _ in range(_MAX_DIALECTS):
            dialect = self._dialect
            try:
                response = await self._client.chat.completions.create(**self._body(request, schema, prepared, dialect))
            except Exception as error:
                if self._learn(_rejected_form(error), dialect):
                    continue
                if (failure := model_error_of(error, self._model)) is None:
                    raise
                raise failure from error
            answer = replace(read_answer(response, self._model), request_form=str(dialect))
            if answer.failure is None and answer.text.strip():
                self._adopt(dialect.after_ignored_schema(answer.text, schema), dialect)
            return answer
        raise ModelError("model_bad_request", f"the server rejects every form of the request; the last was {dialect}")

    def _learn(self, message: str | None, dialect: Dialect) -> bool:
        """Adopt another dialect after a rejection; return whether the request should be sent again."""
        if message is None:
            return False
        changed = dialect.after_rejection(message)
        self._adopt(changed, dialect)
        return changed is not None

    def _adopt(self, changed: Dialect | None, before: Dialect) -> None:
        """Use a changed dialect for all later requests, unless a concurrent request has already changed it."""
        if changed is not None and self._dialect == before:
            self._dialect = changed
            logging.getLogger(__name__).warning("%s: requests are now sent as %s", self._url, changed)

    def _body(
        self, request: ModelRequest, schema: Mapping[str, Any], parts: list[Any], dialect: Dialect
    ) -> dict[str, Any]:
        settings = self._settings
        instruction, text = request.instruction, request.text
        if dialect.structure != "json_schema":
            instruction += f"\n\nThe response schema (JSON Schema):\n{json.dumps(schema, ensure_ascii=False)}"
        content: Any = [*parts, {"type": "text", "text": text}] if parts else text
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "system", "content": instruction}, {"role": "user", "content": content}],
            dialect.token_limit: self.output_budget(request),
        }
        if dialect.takes_temperature:
            body["temperature"] = settings.temperature
        if settings.thinking_level is not None and dialect.takes_effort:
            body["reasoning_effort"] = settings.thinking_level
        if (structure := response_format(dialect, schema)) is not None:
            body["response_format"] = structure
        return body


def _rejected_form(error: Exception) -> str | None:
    """Return the message of a rejected request; None for any other error."""
    status = getattr(error, "status_code", None)
    is_rejection = status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_IMPLEMENTED)
    return message_of(error) if is_rejection else None
