"""What a call record says about the request that was sent.

A record has the text of its call. The instruction and the schema are the same for all calls of a run with one purpose, so
a record has only their hashes, and they are derived again from the run's prompt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from promptreel.providers.base import ModelRequest
from promptreel.providers.evidence_format import instruction_with_evidence, schema_with_evidence
from promptreel.providers.extraction import extraction_instruction
from promptreel.providers.marking import MARKS_SCHEMA, marking_instruction
from promptreel.providers.schema_fields import schema_of_fields
from promptreel.providers.synthesis import synthesis_instruction
from promptreel.schemas.ids import digest


def describe_request(request: ModelRequest) -> str:
    """Return a request as JSON text: the hashes of the shared instruction and schema, the media without its bytes."""
    media = request.media
    described: dict[str, Any] = {
        "instruction_sha256": digest(request.instruction),
        "text": request.text,
        "schema_sha256": digest(request.json_schema),
        "media": None
        if media is None
        else {
            "media_type": media.media_type,
            "item": media.item_key,
            "start_us": media.span.start_us,
            "end_us": media.span.end_us,
            "frames": len(media.frames),
            "has_audio": media.audio_file is not None,
        },
    }
    if request.fields:
        described["fields"] = request.fields
    if request.texts:
        described["texts"] = request.texts
    return json.dumps(described, ensure_ascii=False)


class SentRequests:
    """The requests of one run, from its call records.

    Args:
        definition: the run's prompt as in `Prompt.to_dict`.
        segments_by: see `promptreel.schemas.segmentation.SegmentationSettings`.
        evidence_fields: the fields for which the run requests evidence.
    """

    def __init__(
        self, definition: Mapping[str, Any], segments_by: str | None = None, evidence_fields: Sequence[str] = ()
    ) -> None:
        instruction = instruction_with_evidence(extraction_instruction(definition["prompt_text"]), evidence_fields)
        self._instructions: dict[str, str] = {"metadata_extraction": instruction}
        self._schemas: dict[str, Any] = {
            "metadata_extraction": schema_with_evidence(definition["json_schema"], evidence_fields)
        }
        if level := definition.get("video_level"):
            self._instructions["video_level_synthesis"] = synthesis_instruction(level["instructions_text"])
            self._schemas["video_level_synthesis"] = level["json_schema"]
        if segments_by is not None:
            self._instructions["segmentation"] = marking_instruction(segments_by)
            self._schemas["segmentation"] = MARKS_SCHEMA
        self._hashes = {purpose: digest(instruction) for purpose, instruction in self._instructions.items()}

    def instruction(self, purpose: str, request: str) -> str | None:
        """Return the instruction of a recorded call.

        None for an embedding, and if the hash in the record differs: another version of promptreel, which words its
        instructions differently, made the call.
        """
        is_same = self._hashes.get(purpose, "") == json.loads(request).get("instruction_sha256")
        return self._instructions[purpose] if is_same else None

    def json_schema(self, purpose: str, request: str) -> Mapping[str, Any] | None:
        """Return the schema that the answer to a recorded call must fit; None for embeddings."""
        schema, fields = self._schemas.get(purpose), json.loads(request).get("fields")
        return schema if schema is None or fields is None else schema_of_fields(schema, fields)

    def prompt_text(self, purpose: str, request: str) -> str | None:
        """Return the instruction and the text of a recorded call, or the texts of an embedding; None if not known."""
        recorded = json.loads(request)
        if purpose == "text_embedding":
            return "\n\n".join(recorded["texts"]) if "texts" in recorded else None
        instruction = self.instruction(purpose, request)
        return None if instruction is None else f"{instruction}\n\n{recorded['text']}"
