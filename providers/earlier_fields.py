"""Fields of a segment's answer that earlier answers have, and the answer that they make with the fields still missing.

Times in the values are as the model answered them, in seconds of the segment; see `to_item_times`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jsonschema

from promptreel.providers.answers import AnswerFailed, CheckedAnswer, parse_answer
from promptreel.providers.extraction import TIMES_OUTSIDE
from promptreel.providers.schema_fields import field_definitions, schema_of_fields
from promptreel.schemas.ids import canonical_json
from promptreel.schemas.media_times import read_time_texts
from promptreel.schemas.validation import validator_of

MAX_LOOK_UPS: Final = 8  # of earlier answers for one segment

_LEFT_OUT: Final = object()

Stored = Mapping[str, Any]  # a result as the operation cache stores it


@dataclass(frozen=True, slots=True)
class EarlierSchema:
    """A schema of earlier answers with the same instructions and model.

    Attributes:
        shared: top-level fields with the same definition as in the schema of now.
    """

    json_schema: Mapping[str, Any]
    shared: frozenset[str]


@dataclass(slots=True)
class FieldSearch:
    """The search for the fields of one segment's answer, one earlier answer after the other.

    Attributes:
        json_schema: the complete schema, for which `field_definitions` returns a result.
        earlier: the schemas of earlier answers, newest first.
        values: fields found so far; an optional field that an earlier answer left out is found without a value.
        sources: the answers that they come from, as `merged_from` of a result describes them.
        used: the earlier results.
    """

    json_schema: Mapping[str, Any]
    earlier: Sequence[EarlierSchema]
    values: dict[str, Any] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    used: list[Stored] = field(default_factory=list)
    _found: set[str] = field(default_factory=set)
    _looked_up: set[int] = field(default_factory=set)  # positions in `earlier`

    @property
    def missing(self) -> tuple[str, ...]:
        """The fields that no answer has, in schema order."""
        return tuple(name for name in self.json_schema["properties"] if name not in self._found)

    def next(self) -> EarlierSchema | None:
        """Return the schema whose answer to look up next: that with most of the missing fields; None ends the search."""
        missing = frozenset(self.missing)
        counts = {
            at: len(schema.shared & missing) for at, schema in enumerate(self.earlier) if at not in self._looked_up
        }
        best = max(counts, key=lambda at: counts[at], default=None)  # the newest of equal ones
        if best is None or not counts[best] or len(self._looked_up) >= MAX_LOOK_UPS:
            return None
        self._looked_up.add(best)
        return self.earlier[best]

    def use(self, schema: EarlierSchema, key: str, stored: Stored) -> None:
        """Take the missing fields from an earlier result; values that are not valid are not taken.

        Args:
            key: the operation key of the result.
        """
        wanted = schema.shared.intersection(self.missing)
        found = _valid_fields(stored, schema_of_fields(self.json_schema, wanted))
        if found:
            self.values |= {name: value for name, value in found.items() if value is not _LEFT_OUT}
            self._found |= set(found)
            self.sources += _sources_of(stored, key, found)
            self.used.append(stored)

    def merged(self, answer: CheckedAnswer | None) -> dict[str, Any] | None:
        """Return the complete answer; None if it is not valid, or if another version of the model answered.

        Args:
            answer: the answer with the missing fields; None if none are missing.
        """
        versions = {stored.get("model_version") for stored in self.used}
        versions |= {answer.model_version} if answer is not None else set()
        if len(versions - {None}) > 1:
            return None
        asked = (
            {} if answer is None else {name: answer.metadata[name] for name in self.missing if name in answer.metadata}
        )
        both = {**self.values, **asked}
        merged = {name: both[name] for name in self.json_schema["properties"] if name in both}
        return merged if _validator(canonical_json(self.json_schema)).is_valid(merged) else None

    def result(self, merged: Mapping[str, Any], answer: CheckedAnswer | None) -> dict[str, Any]:
        """Return what the cached result says about a merged answer, apart from its converted times.

        Without a call in this run, this includes the run and the time of the newest earlier answer.
        """
        repairs = [stored.get("answer_repair") for stored in self.used]
        repairs += [answer.repair] if answer is not None else []
        codes = dict.fromkeys(code for repair in repairs if repair for code in repair.split(","))
        versions = [answer.model_version] if answer is not None else [part.get("model_version") for part in self.used]
        result: dict[str, Any] = {
            "text": json.dumps(merged, ensure_ascii=False),
            "model_version": next((version for version in versions if version), None),
            "answer_repair": ",".join(codes) or None,
            "merged_from": self.sources,
        }
        if answer is None:
            newest = max(self.used, key=lambda stored: str(stored["executed_at"]))
            result |= {"run_id": newest["run_id"], "executed_at": newest["executed_at"]}
        return result

    def call_ids(self) -> tuple[str, ...]:
        """Return the calls that produced the reused fields."""
        return tuple(dict.fromkeys(call_id for source in self.sources for call_id in source["llm_call_ids"]))

    def warnings(self) -> list[str]:
        """Return the warnings of the earlier answers, without those about times, which the merged answer gets itself."""
        parts = (part for stored in self.used for part in (stored.get("warning") or "").split("; "))
        return list(dict.fromkeys(part for part in parts if part and not part.startswith(TIMES_OUTSIDE)))


def earlier_schemas(json_schema: Mapping[str, Any], asked: Sequence[Mapping[str, Any]]) -> list[EarlierSchema]:
    """Return those of the given schemas that share fields with a schema, in their order."""
    definitions = field_definitions(json_schema) or {}
    found = []
    for schema in asked:
        others = field_definitions(schema) or {}
        shared = frozenset(name for name, definition in definitions.items() if others.get(name) == definition)
        if shared:
            found.append(EarlierSchema(schema, shared))
    return found


def _valid_fields(stored: Stored, json_schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a schema that a stored answer has; `_LEFT_OUT` for optional ones that it left out.

    The fields of the schema are independent, so an error concerns the field at which its path starts.
    """
    try:
        answer, _ = parse_answer(stored["text"])
    except (AnswerFailed, KeyError, TypeError):
        return {}
    values = {name: answer[name] for name in json_schema["properties"] if name in answer}
    values = read_time_texts(values, json_schema)
    errors = _validator(canonical_json(json_schema)).iter_errors(values)
    invalid = {error.absolute_path[0] for error in errors if error.absolute_path}
    valid = {name: value for name, value in values.items() if name not in invalid}
    optional = set(json_schema["properties"]).difference(json_schema.get("required", ()), answer)
    return valid | dict.fromkeys(optional, _LEFT_OUT)


def _sources_of(stored: Stored, key: str, names: Collection[str]) -> list[dict[str, Any]]:
    """Return the answers that fields of a result come from: itself, or the ones that it was merged from."""
    found, left = [], set(names)
    own_calls = list(stored.get("llm_call_ids") or ())
    for source in stored.get("merged_from") or ():
        own_calls = [call_id for call_id in own_calls if call_id not in source["llm_call_ids"]]
        shared = left.intersection(source["fields"])
        if shared:
            found.append({**source, "fields": sorted(shared)})
            left -= shared
    if left:
        origin = {"run_id": stored.get("run_id"), "operation_key": key, "llm_call_ids": own_calls}
        found.append({"fields": sorted(left), **origin})
    return found


@functools.lru_cache(maxsize=64)
def _validator(schema_text: str) -> jsonschema.protocols.Validator:
    return validator_of(json.loads(schema_text))
