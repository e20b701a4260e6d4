"""CarryOverOutcomes: field-extraction outcomes that a retry copies unchanged from the newest manifest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from promptreel.providers.registry import provider_of
from promptreel.tables.manifest import newest_manifest
from promptreel.tables.pages import ItemRows
from promptreel.tables.part_files import part_paths
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import Failure, OperationOutcome, OutcomeBatch, SegmentTask
from promptreel.transforms.extract_fields import operation_keys


class CarryOverOutcomes(beam.PTransform):
    """Map each distinct `SegmentTask` to an `OutcomeBatch`."""

    def __init__(self, context: RunContext) -> None:
        super().__init__()
        self._context = context

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        return pcoll | "CarryOver" >> beam.ParDo(_CarryOverOutcomesFn(self._context)).with_output_types(OutcomeBatch)


class _CarryOverOutcomesFn(beam.DoFn):
    def __init__(self, context: RunContext) -> None:
        self._context = context

    def setup(self) -> None:
        self._storage = self._context.storage()
        self._provider = provider_of(self._context.request.settings)

    def process(self, task: SegmentTask) -> Iterator[OutcomeBatch]:
        key, _ = operation_keys(task, self._context, self._provider)
        outcome = stored_outcome(task, key, self._storage, self._context.run_id)
        yield OutcomeBatch(task.video_id, tuple((segment_id, outcome) for segment_id in task.answered_ids))


def stored_outcome(task: SegmentTask, key: str, storage: Storage, run_id: str) -> OperationOutcome:
    """Return a segment's field-extraction outcome from the newest manifest; cancelled if the manifest has none."""
    start_us = task.planned.span.start_us
    for row in _rows(storage, run_id, "results", task.video_id, start_us):
        if row["segment_id"] == task.segment_id:
            return OperationOutcome("field_extraction", "succeeded", row["operation_key"], reused=row["reused"])
    for row in _rows(storage, run_id, "failures", task.video_id, start_us):
        if row["segment_id"] == task.segment_id and row["operation"] == "field_extraction":
            failure = Failure(row["code"], row["message"], row["retryable"])
            return OperationOutcome("field_extraction", "failed", key, attempts=row["attempts"], failure=failure)
    return OperationOutcome("field_extraction", "cancelled", key)


def _rows(storage: Storage, run_id: str, table: str, video_id: str, start_us: int) -> Iterator[dict[str, Any]]:
    manifest = newest_manifest(storage, run_id)
    parts = manifest.parts_of_item(table, video_id) if manifest is not None else []
    return ItemRows(part_paths(storage, run_id, parts)).of(video_id, first_us=start_us, last_us=start_us)
