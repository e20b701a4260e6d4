"""The status of runs on one media item: from the database while they run, then from their tables."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import required_time
from promptreel.api.db.models import RunItem, RunRecord, Video
from promptreel.api.runs.run_tables import Row, RunTables, run_tables
from promptreel.api.runs.statuses import FINAL, WIRE_SEGMENT_STATUS
from promptreel.api.runs.synthesis_status import CANCELLED, synthesis_of
from promptreel.api.runs.unstarted import planned_segments
from promptreel.api.web.damage import report_skipped
from promptreel.schemas.errors import RunDamaged
from promptreel.tables.storage import Storage

_MAX_RUNS = 20  # of one item


def processing_status(
    session: Session, storage: Storage, video: Video, *, with_segments: bool = False
) -> list[dict[str, Any]] | None:
    """Return the status of the latest runs over an item, newest first, or None if there are no runs."""
    runs = session.scalars(
        select(RunRecord)
        .join(RunItem, RunItem.run_id == RunRecord.run_id)
        .where(RunItem.video_id == video.video_id, RunRecord.account_id == video.account_id)
        .order_by(RunRecord.created_at.desc(), RunRecord.run_id.desc())
        .limit(_MAX_RUNS)
    ).all()
    return [_run_status(storage, run, video, with_segments) for run in runs] or None


def _run_status(storage: Storage, run: RunRecord, video: Video, with_segments: bool) -> dict[str, Any]:
    """Return the status of one run on an item. A damaged run is treated like a run without tables."""
    try:
        tables = run_tables(storage, run.run_id) if run.manifest_number is not None else None
        return _status_from(tables, run, video, with_segments)
    except RunDamaged as error:
        report_skipped(error)
        return _status_from(None, run, video, with_segments)


def _status_from(tables: RunTables | None, run: RunRecord, video: Video, with_segments: bool) -> dict[str, Any]:
    video_id = video.video_id
    media = next(tables.rows("media", video_id), None) if tables is not None else None
    updated = required_time(run.completed_at or run.started_at or run.created_at)
    counts = (0, 0, 0, 0)
    if media is not None:
        cancelled, succeeded = media["cancelled_segments"], media["succeeded_segments"]
        counts = (media["segment_count"], cancelled, succeeded, media["failed_segments"])
    if not counts[0] and run.status == "cancelled" and (media is None or media["status"] == "cancelled"):
        planned = planned_segments(run, video)
        counts = (planned, planned, 0, 0)
    return {
        "run_id": run.run_id,
        "prompt_id": run.prompt_id,
        "status": run.status,
        "total_segments": counts[0],
        "pending_segments": 0,
        "cancelled_segments": counts[1],
        "processing_segments": 0,
        "successful_segments": counts[2],
        "failed_segments": counts[3],
        "created_at": required_time(run.created_at),
        "updated_at": updated,
        "attempt_id": None,
        "video_level": _video_level(run, tables, media, video, updated, counts),
        "segments": _segments(tables, video_id, updated) if with_segments and tables is not None else [],
    }


def _video_level(
    run: RunRecord,
    tables: RunTables | None,
    media: Row | None,
    video: Video,
    updated: str,
    counts: tuple[int, int, int, int],
) -> dict[str, Any] | None:
    if run.prompt.get("video_level") is None or video.media_type == "image":
        return None
    if tables is None and run.status not in FINAL:
        return None
    synthesis = synthesis_of(run, tables, media, video.video_id)
    row = synthesis.row
    return {
        "status": synthesis.status,
        "result_available": row is not None,
        "successful_segment_count": counts[2],
        "failed_segment_count": counts[3],
        "started_at": None,
        "completed_at": row["executed_at"] if row is not None else None,
        "updated_at": updated,
        "error_message": synthesis.error,
        "attempt_id": None,
    }


def _segments(tables: RunTables, video_id: str, updated: str) -> list[dict[str, Any]]:
    failures: dict[str, dict[str, Any]] = {}
    for row in tables.rows("failures", video_id):
        failures.setdefault(row["segment_id"], row)
    return [
        {
            "segment_id": row["segment_id"],
            "video_id": video_id,
            "status": WIRE_SEGMENT_STATUS[row["status"]],
            "start_time": row["start_time"],
            "end_time": row["end_time"],
            "started_at": None,
            "completed_at": None,
            "updated_at": updated,
            "error_message": failures[row["segment_id"]]["message"]
            if row["segment_id"] in failures
            else (CANCELLED if row["status"] == "cancelled" else None),
            "failure_stage": failures[row["segment_id"]]["operation"] if row["segment_id"] in failures else None,
            "attempt_id": None,
        }
        for row in tables.rows("segments", video_id)
    ]
