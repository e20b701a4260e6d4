"""The prompt definition: instructions and a JSON schema, an optional media-wide synthesis, and what is indexed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jsonschema

from promptreel.schemas.errors import PromptError
from promptreel.schemas.field_paths import LeafField, leaf_fields, parse_schema
from promptreel.schemas.ids import prompt_id_of
from promptreel.schemas.validation import check_is_closed, check_is_small

# Limits of the public prompt-run API.
NAME_CHARS: Final = (3, 100)
DESCRIPTION_CHARS: Final = (0, 500)
PROMPT_TEXT_CHARS: Final = (10, 5000)
INSTRUCTIONS_CHARS: Final = (1, 12_000)

SYSTEM_FIELDS: Final[tuple[str, ...]] = ("transcription", "metadata_text")


@dataclass(frozen=True)
class VideoLevel:
    """The synthesis over one media item's segments.

    Attributes:
        instructions_text: what to make of the segments' fields.
        json_schema: what the answer must look like; the root is an object.
        included_segment_fields: canonical paths of the segment fields (or `transcription`, `metadata_text`) that the
            synthesis reads; empty means `metadata_text`.
    """

    instructions_text: str
    json_schema: Mapping[str, Any]
    included_segment_fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_length("video_level.instructions_text", self.instructions_text, INSTRUCTIONS_CHARS)
        check_json_schema(self.json_schema, "video_level.json_schema")

    @property
    def leaves(self) -> tuple[LeafField, ...]:
        return leaf_fields(parse_schema(self.json_schema, "video_level.json_schema"))


@dataclass(frozen=True)
class SemanticIndexing:
    """Leaf paths that are extracted but not embedded; they stay available to filters and SQL."""

    disabled_segment_fields: tuple[str, ...] = ()
    disabled_video_level_fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """One prompt, checked when it is made.

    Raises:
        PromptError: a rule is broken; the message names the field, its value and the fix.
    """

    name: str
    prompt_text: str
    json_schema: Mapping[str, Any]
    description: str = ""
    video_level: VideoLevel | None = None
    semantic_indexing: SemanticIndexing = field(default_factory=SemanticIndexing)

    def __post_init__(self) -> None:
        _check_length("name", self.name, NAME_CHARS)
        _check_length("description", self.description, DESCRIPTION_CHARS)
        _check_length("prompt_text", self.prompt_text, PROMPT_TEXT_CHARS)
        check_json_schema(self.json_schema, "json_schema")
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
        """The leaf fields of the segment schema, in schema order."""
        return leaf_fields(parse_schema(self.json_schema))

    @property
    def prompt_id(self) -> str:
        return prompt_id_of(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The definition as JSON values; `prompt_from_dict` reads it back."""
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
        }


def prompt_from_dict(definition: Any, where: str = "prompt") -> Prompt:
    """Reads a definition as `Prompt.to_dict` writes it; unknown keys are refused.

    Raises:
        PromptError: a key is missing, unknown or of the wrong type, or a rule of `Prompt` is broken.
    """
    known = {"name", "description", "prompt_text", "json_schema", "video_level", "semantic_indexing"}
    data = _object(definition, where, known, {"name", "prompt_text", "json_schema"})
    level, indexing = data.get("video_level"), data.get("semantic_indexing")
    try:
        return Prompt(
            name=data["name"],
            description=data.get("description") or "",
            prompt_text=data["prompt_text"],
            json_schema=data["json_schema"],
            video_level=None if level is None else _video_level(level),
            semantic_indexing=SemanticIndexing() if indexing is None else _semantic_indexing(indexing),
        )
    except PromptError as error:
        raise PromptError(f"{where}: {error}") from error


def read_prompt_file(path: Path) -> Prompt:
    """Reads a prompt definition from a JSON file.

    Raises:
        PromptError: the file cannot be read, is not JSON, or breaks a rule.
    """
    try:
        definition = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise PromptError(f"prompt file {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise PromptError(f"prompt file {path}: is not JSON ({error})") from error
    return prompt_from_dict(definition, f"prompt file {path}")


def check_json_schema(json_schema: Any, where: str) -> None:
    """Checks field names, types and references first (clear messages), then the whole against JSON Schema 2020-12, and
    that it refers to nothing but itself.

    Raises:
        PromptError: naming the field.
    """
    check_is_small(json_schema, where)
    parse_schema(json_schema, where)
    try:
        jsonschema.Draft202012Validator.check_schema(json_schema)
    except jsonschema.SchemaError as error:
        place = "/".join(str(part) for part in error.absolute_path) or "the root"
        raise PromptError(f"{where}: is not a valid JSON schema at {place}: {error.message}") from error
    check_is_closed(json_schema, where)


def _video_level(definition: Any) -> VideoLevel:
    known = {"instructions_text", "included_segment_fields", "json_schema"}
    data = _object(definition, "video_level", known, {"instructions_text", "json_schema"})
    return VideoLevel(
        instructions_text=data["instructions_text"],
        json_schema=data["json_schema"],
        included_segment_fields=_strings("video_level.included_segment_fields", data.get("included_segment_fields")),
    )


def _semantic_indexing(definition: Any) -> SemanticIndexing:
    known = {"disabled_segment_fields", "disabled_video_level_fields"}
    data = _object(definition, "semantic_indexing", known, set())
    return SemanticIndexing(**{key: _strings(f"semantic_indexing.{key}", data.get(key)) for key in known})


def _object(value: Any, where: str, known: set[str], required: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise PromptError(f"{where}: must be a JSON object, not {type(value).__name__}")
    if missing := sorted(required - set(value)):
        raise PromptError(f"{where}: {', '.join(missing)} missing")
    if unknown := sorted(set(value) - known):
        raise PromptError(f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return value


def _strings(where: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise PromptError(f"{where}: must be a list of strings, not {value!r}")
    return tuple(value)


def _check_length(where: str, value: Any, limits: tuple[int, int]) -> None:
    if not isinstance(value, str):
        raise PromptError(f"{where}: must be text, not {value!r}")
    low, high = limits
    if not low <= len(value.strip()) or len(value) > high:
        raise PromptError(f"{where}: must have {low} to {high} characters, has {len(value)}")


def _check_paths(where: str, paths: tuple[str, ...], known: list[str]) -> None:
    for path in paths:
        if path not in known and f"{path.removesuffix('[]')}" not in known:
            raise PromptError(f"{where}: no field '{path}' in the schema; its fields are {', '.join(known) or 'none'}")
