"""Rows of one segment in the table `field_evidence`."""

from __future__ import annotations

from collections.abc import Iterator

from promptreel.media.analysis import MediaAnalysis, frames_of_span
from promptreel.providers.evidence_checks import SegmentFacts, check_claim, has_value, read_claim
from promptreel.schemas.arrow import row_of
from promptreel.schemas.evidence import FieldEvidenceRow
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.transforms.elements import SegmentOutcome
from promptreel.transforms.rows.source import Row, RowSource
from promptreel.transforms.transcribe import segment_words


def evidence_rows(segment: SegmentOutcome, source: RowSource, analysis: MediaAnalysis | None) -> Iterator[Row]:
    """Yield the checked evidence for each field of a result that has a value, in the order of the fields' names."""
    outcome = segment.outcome_of("field_extraction")
    fields = source.context.evidence_fields
    if not fields or outcome is None or outcome.outcome != "succeeded":
        return
    task, result = segment.task, source.result_of(outcome)
    span = task.planned.span
    frames = frames_of_span(analysis.frames, span) if analysis is not None else ()
    facts = SegmentFacts(
        span=span,
        is_image=task.media_type == "image",
        frame_times_us=[frame.time_us for frame in frames],
        words=segment_words(segment, source.cache),
    )
    for field in sorted(fields):
        if not has_value(result["metadata"].get(field)):
            continue
        claim = read_claim(result.get("evidence"), field, facts)
        checked = check_claim(claim, facts, (result.get("screen_words") or {}).get(field))
        start_us, end_us = checked.claim.start_us, checked.claim.end_us
        row = FieldEvidenceRow(
            run_id=source.run_id,
            video_id=task.video_id,
            segment_id=task.segment_id,
            field=field,
            start_us=span.start_us,
            evidence_start_us=start_us,
            evidence_end_us=end_us,
            evidence_start_time=None if start_us is None else seconds_from_us(start_us),
            evidence_end_time=None if end_us is None else seconds_from_us(end_us),
            frame_us=checked.frame_us,
            frame_time=None if checked.frame_us is None else seconds_from_us(checked.frame_us),
            quote=checked.claim.quote,
            quote_source=checked.claim.source,
            quote_score=checked.quote_score,
            verdict=checked.verdict,
        )
        yield row_of(row)
