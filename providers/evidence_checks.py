"""Check the evidence of an answer against its segment: the time span, the frame, the quoted words.

Evidence never changes or fails an answer: what does not check out is a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from promptreel.providers.quote_match import MIN_QUOTE_SCORE, quote_score
from promptreel.schemas.evidence import EvidenceVerdict, QuoteSource
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.media_times import seconds_of
from promptreel.schemas.mediatime import US_PER_SECOND
from promptreel.schemas.speech_rows import Word

TOLERANCE_US: Final = US_PER_SECOND  # models sample about one frame a second, and round times to seconds
MAX_QUOTE_CHARS: Final = 1000
_MAX_SECONDS: Final = 1e9


@dataclass(frozen=True, slots=True)
class EvidenceClaim:
    """The evidence that a model gives for one field.

    Attributes:
        start_us, end_us: in item time; both None for an image.
        quote, source: both None without quoted words.
    """

    start_us: int | None = None
    end_us: int | None = None
    quote: str | None = None
    source: QuoteSource | None = None


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What is known about a segment.

    Attributes:
        span: the segment; an image has [0, 0).
        frame_times_us: its sampled frames, in order.
        words: the words spoken in it; None without a transcript.
    """

    span: TimeSpan
    is_image: bool
    frame_times_us: Sequence[int]
    words: Sequence[Word] | None


@dataclass(frozen=True, slots=True)
class CheckedEvidence:
    """The evidence for one field with its verdict; see `promptreel.schemas.evidence.FieldEvidenceRow`."""

    claim: EvidenceClaim
    verdict: EvidenceVerdict
    frame_us: int | None = None
    quote_score: float | None = None


def has_value(value: Any) -> bool:
    """Return whether a field says something that evidence can show: not null, and not an empty text, list or object."""
    return value is not None and value not in ("", [], {})


def read_claim(evidence: Any, field: str, facts: SegmentFacts) -> EvidenceClaim | None:
    """Read the evidence of one field from an answer; None if it is missing or malformed.

    Args:
        evidence: the part `evidence` of the answer, as the model wrote it.
    """
    part = evidence.get(field) if isinstance(evidence, Mapping) else None
    if not isinstance(part, Mapping):
        return None
    quote = part.get("quote")
    quote = quote.strip()[:MAX_QUOTE_CHARS] if isinstance(quote, str) else ""
    source: QuoteSource = "screen" if part.get("quote_source") == "screen" else "speech"
    quoted = (quote, source) if quote else (None, None)
    if facts.is_image:
        return EvidenceClaim(None, None, *quoted)
    given = [_seconds(part[name]) for name in ("start", "end") if part.get(name) is not None]
    start_s, end_s = (given[0], given[-1]) if given else (None, None)  # one time alone is an instant
    if start_s is None or end_s is None or start_s > end_s:
        return None
    first_us = facts.span.start_us
    return EvidenceClaim(first_us + round(start_s * US_PER_SECOND), first_us + round(end_s * US_PER_SECOND), *quoted)


def check_claim(
    claim: EvidenceClaim | None, facts: SegmentFacts, screen_words: Sequence[str] | None
) -> CheckedEvidence:
    """Check the evidence of one field.

    A span may exceed its segment by `TOLERANCE_US`, and a quote may lie outside its span by as much.

    Args:
        screen_words: the words shown in the span; None if they were not read.
    """
    if claim is None:
        return CheckedEvidence(EvidenceClaim(), "missing")
    if is_outside(claim, facts.span):
        return CheckedEvidence(claim, "outside_segment")
    frame_us = nearest_frame(claim, facts)
    if claim.quote is None:
        return CheckedEvidence(claim, "not_checked" if facts.is_image else "span_only", frame_us)
    words = screen_words if claim.source == "screen" else _spoken_words(claim, facts)
    score = None if words is None else quote_score(claim.quote, words)
    if score is None:
        return CheckedEvidence(claim, "not_checked", frame_us)
    return CheckedEvidence(claim, "confirmed" if score >= MIN_QUOTE_SCORE else "not_found", frame_us, score)


def is_outside(claim: EvidenceClaim, span: TimeSpan) -> bool:
    """Return whether the time span of a claim exceeds its segment by more than the tolerance."""
    if claim.start_us is None or claim.end_us is None:
        return False
    return claim.start_us < span.start_us - TOLERANCE_US or claim.end_us > span.end_us + TOLERANCE_US


def nearest_frame(claim: EvidenceClaim, facts: SegmentFacts) -> int | None:
    """Return the time of the sampled frame closest to the middle of a claim's span; None if none is near the span.

    A span between two frames has the frame that is within the tolerance of it.
    """
    times = facts.frame_times_us
    if claim.start_us is None or claim.end_us is None:
        return times[0] if facts.is_image and times else None
    middle = (claim.start_us + claim.end_us) // 2
    for margin in (0, TOLERANCE_US):
        near = [time for time in times if claim.start_us - margin <= time <= claim.end_us + margin]
        if near:
            return min(near, key=lambda time: abs(time - middle))
    return None


def _spoken_words(claim: EvidenceClaim, facts: SegmentFacts) -> list[str] | None:
    if facts.words is None or claim.start_us is None or claim.end_us is None:
        return None
    low, high = claim.start_us - TOLERANCE_US, claim.end_us + TOLERANCE_US
    return [word.text for word in facts.words if low <= (word.start_us + word.end_us) // 2 <= high]


def _seconds(value: Any) -> float | None:
    if isinstance(value, str):
        value = seconds_of(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) and abs(value) <= _MAX_SECONDS else None
