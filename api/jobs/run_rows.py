"""Updates of runs, retries and media by the supervisor, and creation of the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import now, required_time
from promptreel.api.db.events import record_event
from promptreel.api.db.models import RetryRecord, RunItem, RunRecord, Video
from promptreel.api.runs.costs import cost_so_far
from promptreel.api.runs.finish import item_counters
from promptreel.api.runs.retries import RETRY_FINAL
from promptreel.api.runs.run_tables import run_tables
from promptreel.api.runs.statuses import SEGMENT_OPERATIONS
from promptreel.api.runs.unstarted import counters_without_results
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.run_labels import RunLabels
from promptreel.schemas.settings import settings_from_dict
from promptreel.tables.attempts import last_attempt
from promptreel.tables.layout import request_file
from promptreel.tables.request import RunRequest, TargetItem, write_request
from promptreel.tables.retry_scope import RetryScope, write_retry
from promptreel.tables.stop_signal import clear_stop
from promptreel.tables.storage import Storage

# Statuses of the media table, as the media of an account have them.
MEDIA_STATUSES: Final = {
    "completed": "processed",
    "partial": "processed",
    "failed": "failed",
    "cancelled": "not_processed",
    "processing": "processing",
}
_TOKENS: Final = ("input", "output", "thought", "cached", "total")


def runs_under_way(session: Session) -> Sequence[Any]:
    """Return id, status and lease of runs that are processing or have a retry that is.

    A run of the command line that is processing has a runner of its own, which no service starts or takes over.
    """
    open_retry = select(RetryRecord.run_id).where(RetryRecord.status == "processing")
    is_executed = and_(RunRecord.status == "processing", RunRecord.is_local.is_(False))
    columns = (RunRecord.run_id, RunRecord.status, RunRecord.lease_owner, RunRecord.lease_fence, RunRecord.lease_beat)
    return session.execute(select(*columns).where(or_(is_executed, RunRecord.run_id.in_(open_retry)))).all()


def oldest_waiting(session: Session) -> tuple[RunRecord | None, RetryRecord | None]:
    """Lock and return the oldest pending run, or the oldest pending retry with its run; None if nothing is pending.
    Rows locked by another transaction are skipped."""
    retry = session.scalars(
        select(RetryRecord)
        .join(RunRecord, RunRecord.run_id == RetryRecord.run_id)
        .where(RetryRecord.status == "pending", RunRecord.lease_owner.is_(None))
        .order_by(RetryRecord.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    waiting = select(RunRecord).where(RunRecord.status == "pending", RunRecord.lease_owner.is_(None))
    oldest = waiting.order_by(RunRecord.created_at).limit(1)
    run = session.scalars(oldest.with_for_update(skip_locked=True)).first()
    if retry is not None and (run is None or retry.created_at <= run.created_at):
        return session.get(RunRecord, retry.run_id), retry
    return run, None


def count_start(session: Session, run: RunRecord, retry_id: str | None) -> int:
    """Increment the starts of the run or of its retry; return the new number."""
    counted = run if retry_id is None else session.get(RetryRecord, retry_id)
    assert counted is not None
    counted.starts += 1
    return counted.starts


def prepare_run_folder(session: Session, storage: Storage, run_id: str, retry_id: str | None) -> None:
    """Create the run folder if it does not exist, and write the file of the retry.

    Raises:
        RunError: the folder cannot be written now; a later call may succeed.
        ExpectedError: the folder can never be written.
    """
    run = session.get(RunRecord, run_id)
    assert run is not None
    if not storage.exists(request_file(run_id)):
        write_run_folder(session, storage, run)
    if retry_id is not None:
        retry = session.get(RetryRecord, retry_id)
        assert retry is not None
        clear_stop(storage, run_id)
        targets = frozenset((video_id, segment_id) for video_id, segment_id in retry.scope["targets"])
        until = last_attempt(storage, run_id) if retry.scope.get("repeat_failed") else 0
        write_retry(storage, run_id, retry_id, RetryScope(targets, until))


def open_retry_of(session: Session, run_id: str) -> RetryRecord | None:
    """Return the retry of a run that is processing, or None."""
    return session.scalars(
        select(RetryRecord).where(RetryRecord.run_id == run_id, RetryRecord.status == "processing").limit(1)
    ).first()


def mark_started(session: Session, run: RunRecord) -> None:
    """Mark a run and its media as processing."""
    run.status = "processing"
    run.started_at = run.started_at or now()
    record_event(session, run.account_id, "prompt_run.started", run_id=run.run_id, index_id=run.index_id)
    mark_media(session, run, {}, "processing")


def mark_failed(session: Session, run: RunRecord, message: str) -> None:
    """Fail a run without a commit: all its items count as failed."""
    run.status = "failed"
    run.error_message = message
    run.completed_at = now()
    run.summary = {**run.summary, **counters_without_results(run.summary, "failed")}
    record_event(
        session,
        run.account_id,
        "prompt_run.failed",
        run_id=run.run_id,
        index_id=run.index_id,
        payload={"error_message": message},
    )
    mark_media(session, run, {}, "failed")


def media_statuses(storage: Storage, run_id: str) -> dict[str, str]:
    """Return the status of each media item after a run, from its committed tables."""
    tables = run_tables(storage, run_id)
    rows = tables.all_rows("media") if tables is not None else []
    return {row["video_id"]: MEDIA_STATUSES[row["status"]] for row in rows}


def mark_media(session: Session, run: RunRecord, statuses: Mapping[str, str], default: str) -> None:
    """Update the status of a run's media. An item that a run has processed stays processed after later failures.

    Call it after recording an event of the run: the lock on events serialises runs that end at the same time.

    Args:
        statuses: status by item id.
        default: status of items not in `statuses`.
    """
    media = select(Video).join(RunItem, RunItem.video_id == Video.video_id).where(RunItem.run_id == run.run_id)
    for video in session.scalars(media.where(Video.account_id == run.account_id, Video.status != "processed")):
        video.status = statuses.get(video.video_id, default)
        video.updated_at = now()


def end_retry(retry: RetryRecord, outcome: dict[str, bool | None], error: str | None) -> None:
    """End a retry.

    Args:
        outcome: whether each operation succeeded.
        error: the first remaining error; None if the retry succeeded.
    """
    retry.status = "failed" if error is not None else "completed"
    retry.outcome = dict(outcome)
    retry.error = error
    retry.completed_at = now()
    assert retry.status in RETRY_FINAL


def write_run_folder(session: Session, storage: Storage, run: RunRecord) -> None:
    """Write the request and target of a run to its folder."""
    videos = session.scalars(
        select(Video)
        .join(RunItem, RunItem.video_id == Video.video_id)
        .where(RunItem.run_id == run.run_id)
        .order_by(RunItem.position)
    )
    items = [TargetItem(video.media_uri, video.title, video.video_id) for video in videos]
    request = RunRequest(
        run_id=run.run_id,
        prompt=prompt_from_dict(run.prompt),
        settings=settings_from_dict(run.settings),
        target=(json.dumps(run.target),),
        created_at=required_time(run.created_at),
        owner=run.account_id,
        labels=RunLabels(run.name, run.tags or {}),
        prompt_version=run.prompt_version,
    )
    write_request(storage, request, items)


def live_summary(summary: dict[str, Any], progress: Mapping[str, int], counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the summary of a running run, updated with its progress. Counts of completed work never decrease.

    Args:
        progress: counters of the newest attempt, which starts at 0.
        counts: counts of the newest interim state; empty before the first.
    """
    other_failures = progress.get("transcription.failed", 0) + progress.get("image_embedding.failed", 0)
    completed = max(
        summary.get("completed_segments", 0),
        counts.get("segments.succeeded", 0),
        progress.get("field_extraction.succeeded", 0) - other_failures,
    )
    planned = max(progress.get("segments_planned", 0), counts.get("segments.total", 0))
    items = item_counters(counts, summary) if counts else {}
    level_items = max(summary.get("video_level_completed_items", 0), counts.get("video_results.total", 0))
    return {
        **summary,
        **{name: _advanced(name, count, summary) for name, count in items.items()},
        "video_level_completed_items": level_items,
        "total_segments": max(summary.get("total_segments", 0), planned, completed),
        "completed_segments": completed,
        **{f"{operation}_failures": progress.get(f"{operation}.failed", 0) for operation in SEGMENT_OPERATIONS},
        "reused_results": progress.get("operations_reused", 0),
        "model_calls": progress.get("calls", 0),
        "actual_cost": cost_so_far(progress, summary),
        "actual_tokens": {kind: progress.get(f"{kind}_tokens", 0) for kind in _TOKENS},
    }


def _advanced(name: str, count: int, summary: Mapping[str, Any]) -> int:
    """A resume repeats failures but not successes, so only counters of completed items must not decrease."""
    return max(count, summary.get(name, 0)) if name.startswith("completed_") else count
