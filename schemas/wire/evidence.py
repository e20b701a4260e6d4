"""Evidence for the fields of an answer: the request for it, and what the results show."""

from __future__ import annotations

from pydantic import Field

from promptreel.schemas.evidence import EvidenceVerdict, QuoteSource
from promptreel.schemas.wire.common import ClosedModel, WireModel


class EvidenceOptions(ClosedModel):
    """The fields for which a run requests evidence.

    Attributes:
        fields: names of top-level fields of the prompt; empty for all.
    """

    fields: list[str] = Field(default=[], max_length=1000)


class FieldEvidence(WireModel):
    """The checked evidence for one field; times are in seconds of the item.

    Attributes:
        start_time, end_time: where the model saw or heard the value; null for an image, and without a usable time span.
        frame_time: time of the sampled frame closest to the middle of the span.
        quote: words that the model quotes.
        quote_source: "speech" or "screen"; null without a quote.
        quote_score: similarity of the quote and the best match in the span, 0..100; null if nothing was compared.
        verdict: confirmed, span_only, not_found, outside_segment, not_checked or missing.
    """

    start_time: float | None = None
    end_time: float | None = None
    frame_time: float | None = None
    quote: str | None = None
    quote_source: QuoteSource | None = None
    quote_score: float | None = None
    verdict: EvidenceVerdict
