"""The prompt definition: instructions, a JSON schema, an optional synthesis per media item, and indexing settings."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import jsonschema
from pydantic import TypeAdapter, ValidationError

from promptreel.schemas.decoding import FORBID_UNKNOWN, NULL_IS_DEFAULT, first_problem
from promptreel.schemas.dialects import inline_root, normalize_schema
from promptreel.schemas.errors import PromptError
from promptreel.schemas.field_paths import LeafField, leaf_fields, parse_schema
from promptreel.schemas.ids import prompt_id_of
from promptreel.schemas.media_times import check_media_times
from promptreel.schemas.prompt_media import PromptMedia
from promptreel.schemas.validation import check_is_closed, check_is_small

# Limits of the public prompt-run API.
NAME_CHARS: Final = (3, 100)
DESCRIPTION_CHARS: Final = (0, 500)
PROMPT_TEXT_CHARS: Final = (10, 5000)
INSTRUCTIONS_CHARS: Final = (1, 12_000)

SYSTEM_FIELDS: Final[tuple[str, ...]] = ("transcription", "metadata_text")


@dataclass(frozen=True)
class VideoLevel:
    """The synthesis of one media item from its segments.

    Attributes:
        instructions_text: instructions for the model.
        json_schema: schema of the answer; the root is an object. Stored as JSON Schema 2020-12, whatever the dialect.
        included_segment_fields: canonical paths of the segment fields (or `transcription`, `metadata_text`) that the
            synthesis reads; empty means `metadata_text`.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    instructions_text: str
    json_schema: Mapping[str, Any]
    included_segment_fields: Annotated[tuple[str, ...], NULL_IS_DEFAULT] = ()

    def __post_init__(self) -> None:
        _check_length("video_level.instructions_text", self.instructions_text, INSTRUCTIONS_CHARS)
        _set_schema(self, "video_level.json_schema")

    @property
    def leaves(self) -> tuple[LeafField, ...]:
        return leaf_fields(parse_schema(self.json_schema, "video_level.json_schema"))


@dataclass(frozen=True)
class SemanticIndexing:
    """Leaf paths that are extracted but in no search index, neither vectors nor words; results show them, and filters and
    SQL can use them."""

    __pydantic_config__ = FORBID_UNKNOWN

    disabled_segment_fields: Annotated[tuple[str, ...], NULL_IS_DEFAULT] = ()
    disabled_video_level_fields: Annotated[tuple[str, ...], NULL_IS_DEFAULT] = ()


@dataclass(frozen=True)
class Prompt:
    """One prompt, validated on construction.

    Raises:
        PromptError: a field is invalid; the message names the field, its value and the fix.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    name: str
    prompt_text: str
    json_schema: Mapping[str, Any]
    description: Annotated[str, NULL_IS_DEFAULT] = ""
    video_level: VideoLevel | None = None
    semantic_indexing: Annotated[SemanticIndexing, NULL_IS_DEFAULT] = field(default_factory=SemanticIndexing)
    media: Annotated[PromptMedia, NULL_IS_DEFAULT] = field(default_factory=PromptMedia)

    def __post_init__(self) -> None:
        _check_length("name", self.name, NAME_CHARS)
        _check_length("description", self.description, DESCRIPTION_CHARS)
        _check_length("prompt_text", self.prompt_text, PROMPT_TEXT_CHARS)
        _set_schema(self, "json_schema")
        paths = [leaf.path for leaf in self.leaves]
        indexing = self.semantic_indexing
        _check_paths("semantic_indexing.disabled_segment_fields", indexing.disabled_segment_fields, paths)
        if self.video_level is not None:
            included = self.video_level.included_segment_fields
            _check_paths("video_level.included_segment_fields", included, [*paths, *SYSTEM_FIELDS])
            video_paths = [leaf.path for leaf in self.video_level.leaves]
            _check_paths(
                "semantic_indexing.disabled_video_level_fields", indexing.disabled_video_level_fields, video_paths
            )

    @property
    def leaves(self) -> tuple[LeafField, ...]:
        """Leaf fields of the segment schema, in schema order."""
        return leaf_fields(parse_schema(self.json_schema))

    @property
    def prompt_id(self) -> str:
        return prompt_id_of(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the definition as JSON values; `prompt_from_dict` decodes it."""
        level = self.video_level
        return {
            "name": self.name,
            "description": self.description,
            "prompt_text": self.prompt_text,
            "json_schema": self.json_schema,
            "video_level": None
            if level is None
            else {
                "instructions_text": level.instructions_text,
                "included_segment_fields": list(level.included_segment_fields),
                "json_schema": level.json_schema,
            },
            "semantic_indexing": {
                "disabled_segment_fields": list(self.semantic_indexing.disabled_segment_fields),
                "disabled_video_level_fields": list(self.semantic_indexing.disabled_video_level_fields),
            },
            # Only if set, so that the ids of earlier prompts stay the same.
            **({} if self.media == PromptMedia() else {"media": self.media.to_dict()}),
        }


_PROMPT: Final = TypeAdapter(Prompt)


def prompt_from_dict(definition: Any, where: str = "prompt") -> Prompt:
    """Decode a definition as written by `Prompt.to_dict`. Optional fields may be null or missing.

    Args:
        where: source of the definition, for error messages.

    Raises:
        PromptError: a key is missing, unknown or of the wrong type, or a field is invalid.
    """
    try:
        return _PROMPT.validate_python(definition)
    except ValidationError as error:
        raise PromptError(f"{where}: {first_problem(error)}") from error
    except PromptError as error:
        raise PromptError(f"{where}: {error}") from error


def read_prompt_file(path: Path) -> Prompt:
    """Read a prompt definition from a JSON file.

    Raises:
        PromptError: the file cannot be read, is not JSON, or contains an invalid definition.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PromptError(f"prompt file {path}: cannot be read ({error.strerror})") from error
    return parse_prompt(content, f"prompt file {path}")


def parse_prompt(content: bytes, where: str) -> Prompt:
    """Parse a prompt definition: JSON in UTF-8, with or without a byte order mark.

    Args:
        where: source of the definition, for error messages.

    Raises:
        PromptError: the content is not JSON, or is an invalid definition.
    """
    try:
        definition = json.loads(content.decode("utf-8-sig"))
    except ValueError as error:
        raise PromptError(f"{where}: is not JSON ({error})") from error
    return prompt_from_dict(definition, where)


def check_json_schema(json_schema: Any, where: str) -> dict[str, Any]:
    """Check that a JSON schema is valid, bounded and self-contained; return it as JSON Schema 2020-12.

    Field names, types and references are checked before the schema is validated against JSON Schema 2020-12, because
    those checks have clearer messages.

    Raises:
        PromptError: the schema is invalid; the message names the field.
    """
    check_is_small(json_schema, where)
    if isinstance(json_schema, Mapping):
        json_schema = normalize_schema(json_schema, where)
    parse_schema(json_schema, where)
    try:
        _check_against_standard(json.dumps(json_schema))
    except jsonschema.SchemaError as error:
        location = "/".join(str(part) for part in error.absolute_path) or "the root"
        raise PromptError(f"{where}: is not a valid JSON schema at {location}: {error.message}") from error
    check_is_closed(json_schema, where)
    check_media_times(json_schema, where)
    return inline_root(json_schema, where)


@functools.lru_cache(maxsize=256)
def _check_against_standard(content: str) -> None:
    """Check JSON of a schema against JSON Schema 2020-12; a service reads the same prompts again and again."""
    jsonschema.Draft202012Validator.check_schema(json.loads(content))


def _set_schema(owner: Prompt | VideoLevel, where: str) -> None:
    object.__setattr__(owner, "json_schema", check_json_schema(owner.json_schema, where))


def _check_length(where: str, value: str, limits: tuple[int, int]) -> None:
    low, high = limits
    if not low <= len(value.strip()) or len(value) > high:
        raise PromptError(f"{where}: has {len(value)} characters; it must have {low} to {high}")


def _check_paths(where: str, paths: tuple[str, ...], known: list[str]) -> None:
    for path in paths:
        if path not in known and f"{path.removesuffix('[]')}" not in known:
            raise PromptError(f"{where}: no field '{path}' in the schema; its fields are {', '.join(known) or 'none'}")
