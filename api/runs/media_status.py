"""The status of runs on one media item, from the database and their tables, which show what is finished so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import required_time, wire_text
from promptreel.api.db.models import RunItem, RunRecord, Video
from promptreel.api.runs.run_tables import Row, RunTables, readable_tables
from promptreel.api.runs.statuses import FINAL, UNFINISHED, WIRE_SEGMENT_STATUS
from promptreel.api.runs.synthesis_status import CANCELLED, synthesis_of
from promptreel.api.runs.unstarted import planned_segments
from promptreel.api.web.damage import report_skipped
from promptreel.schemas.errors import RunDamaged, StateExpired
from promptreel.tables.storage import Storage

MAX_RUNS_IN_LISTS = 3  # of each item
_MAX_RUNS = 20  # of one item


def processing_status(
    session: Session, storage: Storage, video: Video, *, with_segments: bool = False
) -> list[dict[str, Any]] | None:
    """Return the status of the latest runs over an item, newest first, or None if there are no runs."""
    ids = [video.video_id]
    found = processing_statuses(
        session, storage, video.account_id, ids, max_runs=_MAX_RUNS, with_segments=with_segments
    )
    return found.get(video.video_id)


def add_processing_status(
    session: Session, storage: Storage, account_id: str, bodies: Sequence[dict[str, Any]]
) -> None:
    """Set the status of the latest runs in a list of media items, as rendered by `video_body`."""
    found = processing_statuses(session, storage, account_id, [body["video_id"] for body in bodies])
    for body in bodies:
        body["processing_status"] = found.get(body["video_id"])


def processing_statuses(
    session: Session,
    storage: Storage,
    account_id: str,
    video_ids: Sequence[str],
    *,
    max_runs: int = MAX_RUNS_IN_LISTS,
    with_segments: bool = False,
) -> dict[str, list[dict[str, Any]]]:
    """Return the status of the latest runs over items, newest first, by item id. Items without runs are missing.

    Args:
        account_id: the owner of the runs.
        max_runs: maximum number of runs of each item.
    """
    newest_first = (RunRecord.created_at.desc(), RunRecord.run_id.desc())
    rank = func.row_number().over(partition_by=RunItem.video_id, order_by=newest_first).label("rank")
    ranked = (
        select(RunItem.video_id, RunItem.run_id, rank)
        .join(RunRecord, RunRecord.run_id == RunItem.run_id)
        .where(RunItem.video_id.in_(video_ids), RunRecord.account_id == account_id)
        .subquery()
    )
    rows = session.execute(
        select(ranked.c.video_id, RunRecord)
        .join(RunRecord, RunRecord.run_id == ranked.c.run_id)
        .where(ranked.c.rank <= max_runs)
        .order_by(ranked.c.video_id, ranked.c.rank)
    )
    videos = {video.video_id: video for video in session.scalars(select(Video).where(Video.video_id.in_(video_ids)))}
    tables_of = _TablesOfRuns(storage)
    found: dict[str, list[dict[str, Any]]] = {}
    for video_id, run in rows:
        found.setdefault(video_id, []).append(_run_status(tables_of, run, videos[video_id], with_segments))
    return found


class _TablesOfRuns:
    """The tables of runs that share items, each read once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._tables: dict[str, RunTables | None] = {}

    def read(self, run: RunRecord) -> RunTables | None:
        """Return what is finished so far; None if nothing is."""
        if run.status == "pending":
            return None
        if run.run_id not in self._tables:
            self._tables[run.run_id] = readable_tables(self._storage, run.run_id)
        return self._tables[run.run_id]

    def discard(self, run: RunRecord) -> None:
        """Read the tables of a run again the next time: a newer state has replaced them."""
        self._tables.pop(run.run_id, None)


def _run_status(tables_of: _TablesOfRuns, run: RunRecord, video: Video, with_segments: bool) -> dict[str, Any]:
    """Return the status of one run on an item. A damaged run is treated like a run without tables."""
    try:
        return _newest_status(tables_of, run, video, with_segments)
    except StateExpired:
        tables_of.discard(run)
        return _newest_status(tables_of, run, video, with_segments)
    except RunDamaged as error:
        report_skipped(error)
        return _status_from(None, run, video, with_segments)


def _newest_status(tables_of: _TablesOfRuns, run: RunRecord, video: Video, with_segments: bool) -> dict[str, Any]:
    return _status_from(tables_of.read(run), run, video, with_segments)


def _status_from(tables: RunTables | None, run: RunRecord, video: Video, with_segments: bool) -> dict[str, Any]:
    video_id = video.video_id
    media = next(tables.rows("media", video_id), None) if tables is not None else None
    updated = required_time(run.completed_at or run.started_at or run.created_at)
    counts = (0, 0, 0, 0)
    pending = processing = 0
    if media is not None and tables is not None:
        cancelled, succeeded = media["cancelled_segments"], media["succeeded_segments"]
        counts = (media["segment_count"], cancelled, succeeded, media["failed_segments"])
        if media["status"] == "processing":
            updated = tables.manifest.committed_at
            unfinished = [row["status"] for row in tables.rows("segments", video_id) if row["status"] in UNFINISHED]
            processing = unfinished.count("processing")
            pending = len(unfinished) - processing
    if not counts[0] and run.status == "cancelled" and (media is None or media["status"] == "cancelled"):
        planned = planned_segments(run, video)
        counts = (planned, planned, 0, 0)
    return {
        "run_id": run.run_id,
        "prompt_id": run.prompt_id,
        "status": run.status,
        "total_segments": counts[0],
        "pending_segments": pending,
        "cancelled_segments": counts[1],
        "processing_segments": processing,
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
        "completed_at": wire_text(row["executed_at"]) if row is not None else None,
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
