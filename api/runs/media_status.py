"""The status of runs on one media item, from the database and their tables, which show what is finished so far."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import required_time
from promptreel.api.db.models import RunItem, RunRecord, Video
from promptreel.api.runs.run_tables import Row, RunTables, readable_tables
from promptreel.api.runs.statuses import UNFINISHED, WIRE_SEGMENT_STATUS
from promptreel.api.runs.synthesis_status import synthesis_rows, synthesis_status
from promptreel.api.web.damage import report_skipped
from promptreel.schemas.errors import RunDamaged, StateExpired
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
    return [_run_status(storage, run, video.video_id, with_segments) for run in runs] or None


def _run_status(storage: Storage, run: RunRecord, video_id: str, with_segments: bool) -> dict[str, Any]:
    """Return the status of one run on an item. A damaged run is treated like a run without tables."""
    try:
        return _newest_status(storage, run, video_id, with_segments)
    except StateExpired:
        return _newest_status(storage, run, video_id, with_segments)
    except RunDamaged as error:
        report_skipped(error)
        return _status_from(None, run, video_id, with_segments)


def _newest_status(storage: Storage, run: RunRecord, video_id: str, with_segments: bool) -> dict[str, Any]:
    tables = readable_tables(storage, run.run_id) if run.status != "pending" else None
    return _status_from(tables, run, video_id, with_segments)


def _status_from(tables: RunTables | None, run: RunRecord, video_id: str, with_segments: bool) -> dict[str, Any]:
    media = next(tables.rows("media", video_id), None) if tables is not None else None
    updated = required_time(run.completed_at or run.started_at or run.created_at)
    counts = (0, 0, 0, 0)
    processing = 0
    if media is not None and tables is not None:
        cancelled, succeeded = media["cancelled_segments"], media["succeeded_segments"]
        pending = cancelled
        if media["status"] == "processing":
            updated = tables.manifest.committed_at
            unfinished = [row["status"] for row in tables.rows("segments", video_id) if row["status"] in UNFINISHED]
            processing = unfinished.count("processing")
            pending += len(unfinished) - processing
        counts = (media["segment_count"], pending, succeeded, media["failed_segments"])
    return {
        "run_id": run.run_id,
        "prompt_id": run.prompt_id,
        "status": run.status,
        "total_segments": counts[0],
        "pending_segments": counts[1],
        "processing_segments": processing,
        "successful_segments": counts[2],
        "failed_segments": counts[3],
        "created_at": required_time(run.created_at),
        "updated_at": updated,
        "attempt_id": None,
        "video_level": _video_level(run, tables, media, video_id, updated, counts) if tables is not None else None,
        "segments": _segments(tables, video_id, updated) if with_segments and tables is not None else [],
    }


def _video_level(
    run: RunRecord,
    tables: RunTables,
    media: Row | None,
    video_id: str,
    updated: str,
    counts: tuple[int, int, int, int],
) -> dict[str, Any] | None:
    if run.prompt.get("video_level") is None or (media is not None and media["media_type"] == "image"):
        return None
    row, failure = synthesis_rows(tables, video_id)
    return {
        "status": synthesis_status(media, row, failure) if media is not None else "pending",
        "result_available": row is not None,
        "successful_segment_count": counts[2],
        "failed_segment_count": counts[3],
        "started_at": None,
        "completed_at": row["executed_at"] if row is not None else None,
        "updated_at": updated,
        "error_message": failure["message"] if failure is not None else None,
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
            "error_message": failures[row["segment_id"]]["message"] if row["segment_id"] in failures else None,
            "failure_stage": failures[row["segment_id"]]["operation"] if row["segment_id"] in failures else None,
            "attempt_id": None,
        }
        for row in tables.rows("segments", video_id)
    ]
