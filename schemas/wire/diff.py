"""What differs between two runs."""

from __future__ import annotations

from typing import Any, Literal

from promptreel.schemas.wire.common import Page, WireModel


class FieldChangeBody(WireModel):
    """One field of one segment in both runs.

    Attributes:
        segment_id: that of the first run, or of the other where only that has it.
        other_segment_id: the segment of the other run that it was compared with; null where there is none.
        matched_by: id, overlap (the runs cut the item differently; it is the one that shares most time), or none.
        before, after: the values; null where there is none.
    """

    video_id: str
    segment_id: str
    other_segment_id: str | None
    matched_by: Literal["id", "overlap", "none"]
    start_time: float
    end_time: float
    field: str
    before: Any
    after: Any
    change: Literal["added", "removed", "changed", "same"]


class DiffSummaryBody(WireModel):
    """Counts over everything that two runs share.

    Attributes:
        items: media of both runs; `only_before` and `only_after` are not compared.
        segments: by how they were matched.
        changed_segments: those in which a field differs.
        fields: counts of added, removed, changed and same by field.
    """

    items: int
    only_before: int
    only_after: int
    segments: dict[str, int]
    changed_segments: int
    fields: dict[str, dict[str, int]]


class RunDiffPage(Page[FieldChangeBody]):
    """One page of what differs. The summary comes with the first page alone."""

    run_id: str
    other_run_id: str
    summary: DiffSummaryBody | None
