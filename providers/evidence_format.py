"""The request for evidence, and the answer that comes with it.

The model answers `{"answer": <the user's fields>, "evidence": {<field>: ...}}`, so names of the two cannot collide, and the
user's fields are checked against the user's schema alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote

from promptreel.providers.base import ModelRequest
from promptreel.schemas.evidence import QUOTE_SOURCES
from promptreel.schemas.ids import digest
from promptreel.schemas.subschemas import DEFINITIONS, map_subschemas

ANSWER: Final = "answer"
EVIDENCE: Final = "evidence"
VERSION: Final = 1  # part of the keys of operations with evidence; raise it when the request for evidence changes
EVIDENCE_INSTRUCTION: Final = (
    "Give evidence for your answer. Put the fields of the task into `answer`, and the evidence for each field that "
    "`evidence` lists beside it. `start` and `end` are the shortest stretch of the segment in which the field's value can "
    "be seen or heard, in seconds from the start of the segment; both are null for an image, and if nothing in the segment "
    "shows the value. `quote` repeats, word by word and at most 12 words long, what is said or written in that stretch and "
    "shows the value, or is null; `quote_source` is `speech` or `screen`, or `none` without a quote."
)
_NO_SOURCE: Final = "none"
_PARTS: Final[Mapping[str, Any]] = {
    "start": {"type": ["number", "null"]},
    "end": {"type": ["number", "null"]},
    "quote": {"type": ["string", "null"]},
    "quote_source": {"type": "string", "enum": [*QUOTE_SOURCES, _NO_SOURCE]},
}
_ROOT_ONLY: Final = ("$schema", "$id")


def with_evidence(request: ModelRequest, fields: Sequence[str]) -> ModelRequest:
    """Return the request with evidence for these fields; unchanged without any."""
    if not fields:
        return request
    return replace(
        request,
        instruction=instruction_with_evidence(request.instruction, fields),
        json_schema=schema_with_evidence(request.json_schema, fields),
        answer_schema=request.json_schema,
    )


def instruction_with_evidence(instruction: str, fields: Sequence[str]) -> str:
    """Return the instruction with the one for evidence; unchanged without fields."""
    return f"{instruction}\n\n{EVIDENCE_INSTRUCTION}" if fields else instruction


def schema_with_evidence(json_schema: Mapping[str, Any], fields: Sequence[str]) -> Mapping[str, Any]:
    """Return the schema of an answer with evidence for these fields; unchanged without any.

    Definitions stay at the root, where model services read them.
    """
    if not fields:
        return json_schema
    moved = _with_moved_references(json_schema)
    definitions = {keyword: moved[keyword] for keyword in DEFINITIONS if keyword in moved}
    answer = {keyword: part for keyword, part in moved.items() if keyword not in (*DEFINITIONS, *_ROOT_ONLY)}
    return {**_closed({ANSWER: answer, EVIDENCE: _closed({name: _closed(_PARTS) for name in fields})}), **definitions}


def evidence_key(key: str, fields: Sequence[str]) -> str:
    """Return the key of an operation with evidence for these fields; unchanged without any."""
    return digest([key, "evidence", VERSION, *fields]) if fields else key


def split_answer(value: dict[str, Any], request: ModelRequest) -> tuple[dict[str, Any], Any]:
    """Return the user's fields of an answer and its evidence, which is not checked yet.

    An answer without the envelope is taken as the user's fields without evidence.
    """
    answer = value.get(ANSWER)
    if request.answer_schema is None or not isinstance(answer, dict):
        return value, None
    return answer, value.get(EVIDENCE)


def _closed(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _with_moved_references(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    moved = map_subschemas(schema, lambda keyword, step, part: _with_moved_references(part))
    return {**moved, "$ref": _moved(moved["$ref"])} if "$ref" in moved else moved


def _moved(reference: str) -> str:
    """Return a reference to a part of the user's schema as one to the same part below `answer`."""
    steps = reference.split("/")
    is_definition = len(steps) > 1 and unquote(steps[1]) in DEFINITIONS
    return reference if is_definition else f"#/properties/{ANSWER}{reference.removeprefix('#')}"
