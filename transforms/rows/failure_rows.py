"""Rows of the failures of an item and of its segments."""

from __future__ import annotations

from collections.abc import Iterator

from promptreel.schemas.arrow import row_of
from promptreel.schemas.table_rows import FailureRow
from promptreel.transforms.elements import ItemOutcome, OperationOutcome, SegmentOutcome
from promptreel.transforms.rows.source import Row, RowSource


def segment_failure_rows(item: ItemOutcome, segment: SegmentOutcome, source: RowSource) -> Iterator[Row]:
    """Yield the failed operations of a segment."""
    for outcome in segment.outcomes:
        if outcome.failure is not None:
            yield _failure_row(item, segment, outcome, source)


def item_failure_rows(item: ItemOutcome, source: RowSource) -> Iterator[Row]:
    """Yield the failures of an item itself: its processing, synthesis and text embedding."""
    plan = item.plan
    processing = OperationOutcome("processing", "failed", plan.failed_key, attempts=plan.attempts, failure=plan.failure)
    for outcome in (processing, item.synthesis, item.text_embedding):
        if outcome is not None and outcome.failure is not None:
            yield _failure_row(item, None, outcome, source)


def _failure_row(
    item: ItemOutcome, segment: SegmentOutcome | None, outcome: OperationOutcome, source: RowSource
) -> Row:
    failure = outcome.failure
    assert failure is not None
    span = segment.task.planned.span if segment is not None else None
    row = FailureRow(
        run_id=source.run_id,
        video_id=item.plan.item.video_id,
        segment_id=segment.task.segment_id if segment is not None else None,
        name=item.plan.item.name,
        operation=outcome.operation,
        code=failure.code,
        message=failure.message,
        retryable=failure.retryable or source.has_halted(failure),
        attempts=outcome.attempts,
        start_us=span.start_us if span is not None else None,
        end_us=span.end_us if span is not None else None,
        answer=source.last_answers.get(outcome.key),
    )
    return row_of(row)
