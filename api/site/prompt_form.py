"""The form of a prompt: its fields as text, and all problems of what was entered."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import jsonschema
from fastapi import Form
from pydantic import ValidationError

from promptreel.api.site.form_problems import MAX_PROBLEMS, FormProblem, invalid_values, problem_in
from promptreel.api.web.strict_json import parse_json
from promptreel.schemas.dialects import normalize_schema
from promptreel.schemas.errors import PromptError
from promptreel.schemas.prompt import Prompt, check_json_schema, prompt_from_dict
from promptreel.schemas.wire.prompts import CreatePrompt

RESOLUTIONS: Final = ("low", "medium", "high", "ultra_high")
_FIRST_SCHEMA: Final = {
    "type": "object",
    "properties": {"summary": {"type": "string", "description": "What happens, in one sentence."}},
    "required": ["summary"],
}

Entry = Annotated[str, Form()]


@dataclass(frozen=True, slots=True)
class PromptForm:
    """The fields of the form as text. `included_fields` and the lists of paths have one path per line."""

    name: str = ""
    description: str = ""
    prompt_text: str = ""
    json_schema: str = json.dumps(_FIRST_SCHEMA, indent=2)
    synthesis_text: str = ""
    synthesis_schema: str = ""
    included_fields: str = ""
    disabled_fields: str = ""
    disabled_synthesis_fields: str = ""
    pictures_only: bool = False
    frames_per_segment: str = ""
    resolution: str = ""


async def entered_prompt(
    name: Entry = "",
    description: Entry = "",
    prompt_text: Entry = "",
    json_schema: Entry = "",
    synthesis_text: Entry = "",
    synthesis_schema: Entry = "",
    included_fields: Entry = "",
    disabled_fields: Entry = "",
    disabled_synthesis_fields: Entry = "",
    pictures_only: Annotated[bool, Form()] = False,
    frames_per_segment: Entry = "",
    resolution: Entry = "",
) -> PromptForm:
    """Read the form from a request. Browsers send line ends as CR and LF."""
    return PromptForm(
        name=name.strip(),
        description=_lines(description).strip(),
        prompt_text=_lines(prompt_text).strip(),
        json_schema=_lines(json_schema),
        synthesis_text=_lines(synthesis_text).strip(),
        synthesis_schema=_lines(synthesis_schema),
        included_fields=_lines(included_fields),
        disabled_fields=_lines(disabled_fields),
        disabled_synthesis_fields=_lines(disabled_synthesis_fields),
        pictures_only=pictures_only,
        frames_per_segment=frames_per_segment.strip(),
        resolution=resolution,
    )


def form_of(definition: Mapping[str, Any]) -> PromptForm:
    """Return the form that is filled with the definition of a prompt."""
    level, indexing = definition["video_level"], definition["semantic_indexing"]
    media = definition.get("media") or {}
    return PromptForm(
        name=definition["name"],
        description=definition["description"],
        prompt_text=definition["prompt_text"],
        json_schema=indented(definition["json_schema"]),
        synthesis_text="" if level is None else level["instructions_text"],
        synthesis_schema="" if level is None else indented(level["json_schema"]),
        included_fields="" if level is None else "\n".join(level["included_segment_fields"]),
        disabled_fields="\n".join(indexing["disabled_segment_fields"]),
        disabled_synthesis_fields="\n".join(indexing["disabled_video_level_fields"]),
        pictures_only=bool(media.get("pictures_only")),
        frames_per_segment=str(media.get("frames_per_segment") or ""),
        resolution=media.get("resolution") or "",
    )


def indented(json_schema: Any) -> str:
    """Return a JSON value as indented text."""
    return json.dumps(json_schema, ensure_ascii=False, indent=2)


def read_prompt(form: PromptForm) -> tuple[Prompt | None, tuple[FormProblem, ...]]:
    """Return the prompt in a form, or None with everything that is wrong with it."""
    problems: list[FormProblem] = []
    definition = _definition(form, problems)
    unread = {problem.path for problem in problems}
    try:
        body = CreatePrompt.model_validate(definition).model_dump(mode="json")
    except ValidationError as error:
        problems += [problem for problem in invalid_values(error) if problem.path not in unread]
    level = definition["video_level"] or {}
    for path, value in (
        ("json_schema", definition["json_schema"]),
        ("video_level.json_schema", level.get("json_schema")),
    ):
        if isinstance(value, dict):
            problems += _schema_problems(value, path)
    if problems:
        return None, tuple(problems[:MAX_PROBLEMS])
    try:
        return prompt_from_dict(body, "prompt"), ()
    except PromptError as error:
        return None, (problem_in(str(error).removeprefix("prompt: ")),)


def _definition(form: PromptForm, problems: list[FormProblem]) -> dict[str, Any]:
    level = None
    if form.synthesis_text or form.synthesis_schema.strip():
        level = {
            "instructions_text": form.synthesis_text,
            "included_segment_fields": _paths(form.included_fields),
            "json_schema": _json(form.synthesis_schema, "video_level.json_schema", problems),
        }
    indexing = {
        "disabled_segment_fields": _paths(form.disabled_fields),
        "disabled_video_level_fields": _paths(form.disabled_synthesis_fields),
    }
    media = {
        "pictures_only": form.pictures_only,
        "frames_per_segment": form.frames_per_segment or None,
        "resolution": form.resolution or None,
    }
    return {
        "name": form.name,
        "description": form.description,
        "prompt_text": form.prompt_text,
        "json_schema": _json(form.json_schema, "json_schema", problems),
        "video_level": level,
        "semantic_indexing": indexing if any(indexing.values()) else None,
        "media": media if any(media.values()) else None,
    }


def _json(text: str, path: str, problems: list[FormProblem]) -> Any:
    """Parse the JSON of a field; None if it is none."""
    try:
        return parse_json(text.encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        at = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
        problems.append(FormProblem(path, f"is not JSON{at}: {reason}"))
        return None


def _schema_problems(json_schema: dict[str, Any], path: str) -> Iterator[FormProblem]:
    """Yield everything that contradicts JSON Schema, or else the first thing that promptreel does not support."""
    try:
        check_json_schema(json_schema, path)
    except PromptError as error:
        if not isinstance(error.__cause__, jsonschema.SchemaError):
            yield problem_in(str(error))
            return
        meta_schema = jsonschema.Draft202012Validator(jsonschema.Draft202012Validator.META_SCHEMA)
        for part in meta_schema.iter_errors(normalize_schema(json_schema, path)):
            yield FormProblem(".".join([path, *map(str, part.absolute_path)]), part.message)


def _paths(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n")
