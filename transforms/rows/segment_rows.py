"""Rows of one segment in the tables `segments`, `results` and `frames`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from promptreel.media.analysis import MediaAnalysis, frames_of_span
from promptreel.schemas.arrow import row_of
from promptreel.schemas.field_paths import render_text
from promptreel.schemas.key_order import ordered_json
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.outcomes import OperationStatus
from promptreel.schemas.table_rows import FrameRow, ResultRow, SegmentRow
from promptreel.tables.layout import analysis_folder
from promptreel.tables.table_schemas import FIELDS, typed_fields
from promptreel.transforms.elements import SegmentOutcome
from promptreel.transforms.not_run import NotRun
from promptreel.transforms.rows.source import Row, RowSource


def segment_row(
    segment: SegmentOutcome, run_id: str, warnings: Sequence[NotRun] = (), covered_until_us: int = 0
) -> SegmentRow:
    """Build the row of a segment: its span, the reasons for its boundaries, and the outcomes of its operations.

    Args:
        warnings: the requested operations that did not run for the item.
        covered_until_us: the end of the earlier segments of the item.
    """
    task, span = segment.task, segment.task.planned.span
    start, end = task.planned.start, task.planned.end
    ended: dict[str, OperationStatus] = {part.operation: "unavailable" for part in warnings if not part.lacks}
    ended |= {outcome.operation: outcome.outcome for outcome in segment.outcomes}
    return SegmentRow(
        run_id=run_id,
        video_id=task.video_id,
        segment_id=task.segment_id,
        media_type=task.media_type,
        segment_number=task.number,
        start_us=span.start_us,
        end_us=span.end_us,
        start_time=seconds_from_us(span.start_us),
        end_time=seconds_from_us(span.end_us),
        start_reason=start.reason,
        start_score=start.score,
        end_reason=end.reason,
        end_score=end.score,
        status=segment.status,
        **{name: ended.get(name) for name in ("field_extraction", "transcription", "image_embedding")},  # type: ignore[arg-type]
        warnings=tuple(part.text for part in warnings),
        overlap_us=max(0, min(covered_until_us, span.end_us) - span.start_us),
        segment_label=task.planned.label,
        answered_by_segment_id=task.answered_by,
    )


def result_rows(segment: SegmentOutcome, source: RowSource) -> Iterator[Row]:
    """Yield the result of a segment if its field extraction succeeded."""
    outcome = segment.outcome_of("field_extraction")
    if outcome is None or outcome.outcome != "succeeded":
        return
    task, span = segment.task, segment.task.planned.span
    result = source.result_of(outcome)
    row = ResultRow(
        run_id=source.run_id,
        video_id=task.video_id,
        segment_id=task.segment_id,
        prompt_id=source.prompt.prompt_id,
        model=result["model"],
        media_type=task.media_type,
        start_us=span.start_us,
        end_us=span.end_us,
        start_time=seconds_from_us(span.start_us),
        end_time=seconds_from_us(span.end_us),
        metadata=ordered_json(result["metadata"], source.prompt.json_schema),
        metadata_text=render_text(result["metadata"], source.fields.leaves),
        warning=result["warning"],
        reused=outcome.reused,
        operation_key=outcome.key,
        llm_call_ids=tuple(result["llm_call_ids"]),
        executed_at=result["executed_at"],
        model_version=result.get("model_version"),
        answer_repair=result.get("answer_repair"),
        merged_from=json.dumps(result["merged_from"]) if result.get("merged_from") else None,
        answered_by_segment_id=task.answered_by,
    )
    yield {**row_of(row), FIELDS: typed_fields(source.fields.node, result["metadata"])}


def frame_rows(segment: SegmentOutcome, analysis: MediaAnalysis, run_id: str) -> Iterator[Row]:
    """Yield the sampled frames within a segment."""
    task, span = segment.task, segment.task.planned.span
    for frame in frames_of_span(analysis.frames, span):
        if span.start_us <= frame.time_us < span.end_us or task.media_type == "image":
            yield row_of(
                FrameRow(
                    run_id=run_id,
                    video_id=task.video_id,
                    segment_id=task.segment_id,
                    time_us=frame.time_us,
                    time=seconds_from_us(frame.time_us),
                    file=f"{analysis_folder(task.analysis_key)}/{frame.file}",
                )
            )
