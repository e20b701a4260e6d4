"""Evidence for the fields of an answer: which fields have it, and what the check of it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from promptreel.schemas.decoding import FORBID_UNKNOWN
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.field_paths import parse_schema

EvidenceVerdict = Literal["confirmed", "span_only", "not_found", "outside_segment", "not_checked", "missing"]
VERDICTS: Final[tuple[EvidenceVerdict, ...]] = get_args(EvidenceVerdict)
QuoteSource = Literal["speech", "screen"]
QUOTE_SOURCES: Final[tuple[QuoteSource, ...]] = get_args(QuoteSource)


@dataclass(frozen=True)
class EvidenceSettings:
    """Evidence to request with the fields of each segment.

    Attributes:
        fields: names of top-level fields of the prompt; empty for all.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldEvidenceRow:
    """The evidence for one top-level field of a result. A field without a value has no row.

    Attributes:
        start_us: start of the segment.
        evidence_start_us, evidence_end_us: where the model saw or heard the value, in item time; null for an image, and if
            the model gave no usable time span.
        frame_us: time of the sampled frame closest to the middle of the span; null without one.
        quote: words that the model quotes; null without any.
        quote_source: where it read them: "speech" or "screen"; null without a quote.
        quote_score: similarity of the quote and the best match in the span, 0..100; null if nothing was compared.
        verdict: "confirmed" (the quote is in the span), "span_only" (the span is in the segment, and no words are quoted),
            "not_found" (the quote is not in the span), "outside_segment", "not_checked" (no transcript or no text
            recognition to compare the quote with, or an image without a quote), or "missing" (no usable evidence).
    """

    run_id: str
    video_id: str
    segment_id: str
    field: str
    start_us: int
    evidence_start_us: int | None
    evidence_end_us: int | None
    evidence_start_time: float | None
    evidence_end_time: float | None
    frame_us: int | None
    frame_time: float | None
    quote: str | None
    quote_source: QuoteSource | None
    quote_score: float | None
    verdict: EvidenceVerdict


def evidence_fields(json_schema: Mapping[str, Any], evidence: EvidenceSettings | None) -> tuple[str, ...]:
    """Return the top-level fields of a prompt's schema with evidence, in the order of the schema; none without settings."""
    if evidence is None:
        return ()
    names = (name for name, _ in parse_schema(json_schema).fields)
    return tuple(name for name in names if not evidence.fields or name in evidence.fields)


def check_evidence_fields(json_schema: Mapping[str, Any], evidence: EvidenceSettings | None) -> None:
    """Check that the prompt has the fields for which evidence is requested.

    Raises:
        SettingsError: a field is unknown, or the prompt has no named fields.
    """
    if evidence is None:
        return
    names = [name for name, _ in parse_schema(json_schema).fields]
    if not names:
        raise SettingsError(
            "evidence: the prompt's json_schema has no named fields; add properties, or remove evidence"
        )
    if unknown := [name for name in evidence.fields if name not in names]:
        raise SettingsError(
            f"evidence: {', '.join(map(repr, unknown))} is not a top-level field of the prompt; use {', '.join(names)}"
        )
