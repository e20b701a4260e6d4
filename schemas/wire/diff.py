"""Differences between two runs."""

from __future__ import annotations

from typing import Any, Literal

from promptreel.schemas.wire.common import Page, WireModel


class FieldChangeBody(WireModel):
    """One field of one segment, compared between two runs.

    Attributes:
        video_name: the file name of the item in the first run.
        segment_id: the segment in the first run; if only the other run has it, the segment there.
        other_segment_id: the matching segment in the other run; null if none matches.
        matched_by: id, overlap (the runs segment the item differently; the segment with the largest overlap), or none.
        before, after: the values; null if missing.
    """

    video_id: str
    video_name: str
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
    """Counts over the media items that both runs contain.

    Attributes:
        items: number of items in both runs.
        only_before, only_after: number of items in one run only; they are not compared.
        segments: segment counts by `matched_by`.
        changed_segments: number of segments with at least one different field.
        fields: counts of added, removed, changed and same, per field.
    """

    items: int
    only_before: int
    only_after: int
    segments: dict[str, int]
    changed_segments: int
    fields: dict[str, dict[str, int]]


class RunDiffPage(Page[FieldChangeBody]):
    """One page of differences. Only the first page includes the summary."""

    run_id: str
    other_run_id: str
    summary: DiffSummaryBody | None
