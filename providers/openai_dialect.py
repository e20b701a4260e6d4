"""What an OpenAI-compatible server supports, found out from its own responses.

Servers differ in how they structure answers, in the name of the token limit and in whether they take a temperature. They
reject what they do not support with status 400 or 422, which costs nothing, or ignore it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

# "json_schema" enforces the schema, "json_object" enforces JSON; in "prompt" the model only reads the schema.
Structure = Literal["json_schema", "json_object", "prompt"]
TokenLimit = Literal["max_completion_tokens", "max_tokens"]
_STRUCTURE_WORDS: Final = ("response_format", "json_schema", "json_object", "guided", "structured output", "grammar")
_UNSUPPORTED_WORDS: Final = ("support", "unknown", "unrecogni", "unexpected", "extra", "not permitted")


@dataclass(frozen=True, slots=True)
class Dialect:
    """The optional parts of a request that a server supports."""

    structure: Structure = "json_schema"
    token_limit: TokenLimit = "max_completion_tokens"
    takes_temperature: bool = True
    takes_effort: bool = True

    def __str__(self) -> str:
        """Return the form of a request for readers, e.g. "json_object, max_tokens, no temperature"."""
        parts: list[str] = [self.structure, self.token_limit]
        parts += [] if self.takes_temperature else ["no temperature"]
        parts += [] if self.takes_effort else ["no reasoning_effort"]
        return ", ".join(parts)

    def after_rejection(self, message: str) -> Dialect | None:
        """Return the dialect to try after a rejected request; None if the rejection has another cause.

        Args:
            message: the error message of the server.
        """
        text = message.lower()
        if self.token_limit in text:
            other: TokenLimit = "max_tokens" if self.token_limit == "max_completion_tokens" else "max_completion_tokens"
            # Any other message about the limit concerns its value, e.g. more tokens than the model's context.
            is_unsupported = any(word in text for word in _UNSUPPORTED_WORDS)
            return replace(self, token_limit=other) if is_unsupported else None
        if self.takes_temperature and "temperature" in text:
            return replace(self, takes_temperature=False)
        if self.takes_effort and "reasoning" in text:
            return replace(self, takes_effort=False)
        if self.structure != "prompt" and any(word in text for word in _STRUCTURE_WORDS):
            return replace(self, structure="json_object" if self.structure == "json_schema" else "prompt")
        return None

    def after_ignored_schema(self, text: str, json_schema: Mapping[str, Any]) -> Dialect | None:
        """Return the dialect to use after an answer that shows that the server ignored the structure; otherwise None.

        A server that enforces a schema cannot return text that is not JSON, or an object without a required field.
        """
        if self.structure == "prompt":
            return None
        try:
            value = json.loads(text)
        except ValueError:
            return replace(self, structure="prompt")
        required = json_schema.get("required", ())
        if self.structure == "json_schema" and not (isinstance(value, dict) and set(required) <= value.keys()):
            return replace(self, structure="json_object")
        return None


def response_format(dialect: Dialect, json_schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the `response_format` of a request; None if the server supports none."""
    if dialect.structure == "json_schema":
        schema = {"name": "answer", "schema": json_schema, "strict": is_strict(json_schema)}
        return {"type": "json_schema", "json_schema": schema}
    return {"type": "json_object"} if dialect.structure == "json_object" else None


def is_strict(json_schema: Any) -> bool:
    """Return whether a schema meets the conditions of OpenAI's strict mode: every object is closed, and all of its fields
    are required."""
    if isinstance(json_schema, list):
        return all(is_strict(part) for part in json_schema)
    if not isinstance(json_schema, Mapping):
        return True
    properties = json_schema.get("properties")
    if json_schema.get("type") == "object" or properties is not None:
        names = set(properties or ())
        if json_schema.get("additionalProperties") is not False or names != set(json_schema.get("required", ())):
            return False
    return all(is_strict(part) for part in json_schema.values() if isinstance(part, Mapping | list))
