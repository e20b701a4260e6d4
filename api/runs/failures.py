"""The failures of a run: its failed-segments manifest, and the rows that retries select from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.models import RunItem, RunRecord
from promptreel.api.runs.run_tables import Row, RunTables
from promptreel.api.runs.statuses import SEGMENT_OPERATIONS
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.outcomes import Operation

# Operations on an item. Published clients know only "processing", which therefore covers all of them.
_ITEM_OPERATIONS: Final[tuple[Operation, ...]] = ("processing", "synthesis", "text_embedding")
_COUNTED: Final = (*SEGMENT_OPERATIONS, *_ITEM_OPERATIONS)
_OWN_COUNTS: Final = ("synthesis", "text_embedding")


def failure_rows(session: Session, run: RunRecord, tables: RunTables | None, where: str = "true") -> list[Row]:
    """Return the failures of a run that match a SQL condition; `tables` is None before its first commit.

    A run that failed without a commit has one retryable failure for each of its items.
    """
    if tables is not None:
        return tables.all_rows("failures", where)
    if run.status != "failed":
        return []
    items = select(RunItem.video_id).where(RunItem.run_id == run.run_id).order_by(RunItem.position)
    failure = {
        "segment_id": None,
        "operation": "processing",
        "code": "interrupted",
        "message": run.error_message or "the run ended without a commit",
        "retryable": True,
        "start_us": None,
        "end_us": None,
    }
    return [{"video_id": video_id, **failure} for video_id in session.scalars(items)]


def entry_id(row: Mapping[str, Any]) -> str:
    """Return the segment id under which a failure is listed: the item's id for a failure of the item itself."""
    segment_id: str = row["segment_id"] or row["video_id"]
    return segment_id


def reported_operation(operation: str) -> str:
    """Return an operation as the manifest names it: "processing" for every operation on an item."""
    return "processing" if operation in _ITEM_OPERATIONS else operation


def failed_segments(run: RunRecord, rows: Sequence[Row]) -> dict[str, Any]:
    """Render the failures of a run, by item and segment.

    Failures of an item itself (its processing, synthesis or text embedding) have one entry, with the item's id as
    segment id.
    """
    by_video: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        by_video.setdefault(row["video_id"], {}).setdefault(entry_id(row), []).append(row)
    videos = [_failed_video(video_id, segments) for video_id, segments in by_video.items()]
    total: Counter[str] = Counter()
    for video in videos:
        total.update(video["operation_counts"])
    return {
        "run_id": run.run_id,
        "status": run.status,
        "videos_with_failures": len(videos),
        "failed_segments": sum(video["failed_segments"] for video in videos),
        "operation_counts": dict(total) or dict.fromkeys(_COUNTED, 0),
        "videos": videos,
    }


def _failed_video(video_id: str, segments: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    shown = [_failed_segment(segment_id, rows) for segment_id, rows in segments.items()]
    counts = Counter(operation for segment in shown for operation in segment["failed_operations"])
    # Of the item's failures, those of its synthesis and text embedding are also counted on their own.
    counts.update(row["operation"] for rows in segments.values() for row in rows if row["operation"] in _OWN_COUNTS)
    return {
        "video_id": video_id,
        "failed_segments": len(segments),
        "operation_counts": {name: counts[name] for name in _COUNTED},
        "segments": shown,
    }


def _failed_segment(segment_id: str, rows: Sequence[Row]) -> dict[str, Any]:
    first = rows[0]
    messages = {row["operation"]: row["message"] for row in rows}
    return {
        "segment_id": segment_id,
        "failed_operations": list(dict.fromkeys(reported_operation(row["operation"]) for row in rows)),
        **{f"{operation}_error": messages.get(operation) for operation in SEGMENT_OPERATIONS},
        "failure_stage": first["operation"],
        "failure_message": first["message"],
        "failure_code": first["code"],
        "retryable": any(row["retryable"] for row in rows),
        "start_time": None if first["start_us"] is None else seconds_from_us(first["start_us"]),
        "end_time": None if first["end_us"] is None else seconds_from_us(first["end_us"]),
        "projection_only": first["segment_id"] is None,
    }
