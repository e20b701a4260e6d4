"""Retry the failures of a finished run: those of one segment, or all that are retryable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import now, required_time, wire_time
from promptreel.api.db.ids import new_id
from promptreel.api.db.models import RetryRecord, RunItem, RunRecord
from promptreel.api.runs.failures import entry_id, failure_rows, reported_operation
from promptreel.api.runs.run_tables import Row, RunTables, run_tables
from promptreel.api.runs.statuses import FINAL, SEGMENT_OPERATIONS
from promptreel.api.runs.store import owned_run
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import ApiError, none_found, not_found
from promptreel.schemas.outcomes import OPERATIONS
from promptreel.schemas.wire.retries import RetryFailures
from promptreel.tables.attempts import is_running
from promptreel.tables.retry_scope import target_of
from promptreel.tables.storage import Storage

RETRY_FINAL = ("completed", "failed")

# A superset of the targets: `outcome_of` then selects the exact pairs, because two items may share a target name.
_SEGMENTS_OF_TARGETS: Final = """
    video_id IN (SELECT unnest($items))
    AND (segment_id IN (SELECT unnest($names)) OR video_id IN (SELECT unnest($names)))
"""
_FAILURES_OF_TARGETS: Final = """
    video_id IN (SELECT unnest($items))
    AND (segment_id IS NULL OR segment_id IN (SELECT unnest($names)))
"""


def start_retry(
    session: Session,
    storage: Storage,
    caller: Principal,
    run_id: str,
    video_id: str,
    segment_id: str,
    key: str | None,
) -> RetryRecord:
    """Store a retry of one segment. The supervisor executes it.

    Args:
        segment_id: the video id for the failures of an item itself, e.g. of its synthesis.
        key: the idempotency key of the request.

    Raises:
        ApiError: 404 if the run, or the item or segment in it, does not exist; 409 if the run is not finished, the
            segment has no failures, or another retry of the run is in progress.
    """
    run = _retryable_run(session, storage, caller, run_id)
    _check_items(session, run_id, [video_id])
    tables = run_tables(storage, run_id)
    if tables is None:
        failed = _uncommitted_failures(session, run, video_id, segment_id)
    else:
        failed = failures_of_segment(tables, run_id, video_id, segment_id)
    scope = {**_scope_of(failed), "repeat_failed": True}
    return _store_retry(session, caller, run, scope, key, video_id, segment_id)


def start_retry_of_failures(
    session: Session, storage: Storage, caller: Principal, run_id: str, body: RetryFailures, key: str | None
) -> RetryRecord:
    """Store a retry of all retryable failures of a run, or of those of selected operations, codes or items.

    If the run failed without a commit, all its items are retried.

    Raises:
        ApiError: 404 if the run, or one of `video_ids` in it, does not exist; 409 if it is not finished, no failure
            matches, or another retry of the run is in progress.
    """
    run = _retryable_run(session, storage, caller, run_id)
    _check_items(session, run_id, body.video_ids or ())
    tables = run_tables(storage, run_id)
    rows = failure_rows(session, run, tables, "retryable")
    selected = [row for row in rows if _is_selected(row, body)]
    if not selected:
        message = "No retryable failure of this run matches; see GET /prompt-runs/{run_id}/failed-segments."
        raise ApiError(409, "nothing_to_retry", message, {"run_id": run_id, "retryable_failures": len(rows)})
    return _store_retry(session, caller, run, _scope_of(selected), key, None, None)


def owned_retry(
    session: Session,
    caller: Principal,
    run_id: str,
    retry_id: str,
    video_id: str | None = None,
    segment_id: str | None = None,
) -> RetryRecord:
    """Return a retry of the caller.

    Raises:
        ApiError: 404 if the run or the retry does not exist or belongs to another account, run or segment.
    """
    owned_run(session, caller, run_id)
    retry = session.get(RetryRecord, retry_id)
    is_other_segment = (
        retry is not None and segment_id is not None and (retry.video_id, retry.segment_id) != (video_id, segment_id)
    )
    if retry is None or retry.account_id != caller.account_id or retry.run_id != run_id or is_other_segment:
        raise not_found("retry", retry_id)
    return retry


def retry_body(retry: RetryRecord) -> dict[str, Any]:
    """Render a retry as JSON values."""
    first = retry.scope["targets"][0]
    return {
        "run_id": retry.run_id,
        "retry_id": retry.retry_id,
        "status": retry.status,
        "message": f"{len(retry.scope['targets'])} target(s), {', '.join(retry.scope['operations'])}: {retry.status}",
        "idempotency_key": retry.idempotency_key,
        "video_id": retry.video_id or first[0],
        "segment_id": retry.segment_id or (first[0] if first[1] in OPERATIONS else first[1]),
        "created_at": required_time(retry.created_at),
        "started_at": wire_time(retry.started_at),
        "completed_at": wire_time(retry.completed_at),
        "error": retry.error,
        **{f"{operation}_succeeded": retry.outcome.get(operation) for operation in SEGMENT_OPERATIONS},
        "billing_estimated_mt": 0.0,
        "billing_actual_mt": 0.0,
        "billing_status": None,
        "billing_error": None,
    }


def outcome_of(
    storage: Storage, run_id: str, targets: Sequence[Sequence[str]]
) -> tuple[dict[str, bool | None], str | None]:
    """Return the outcome of a retry from the run's newest tables.

    Args:
        targets: pairs of video id and segment id, see `target_of`.

    Returns:
        Whether each operation succeeded for all targets (None if not requested), and the first remaining error.
    """
    tables = run_tables(storage, run_id)
    found: dict[str, bool | None] = dict.fromkeys(SEGMENT_OPERATIONS)
    if tables is None:
        return found, "the run has no tables"
    pairs = {(video_id, segment_id) for video_id, segment_id in targets}
    ids = {"items": list({video_id for video_id, _ in pairs}), "names": list({name for _, name in pairs})}
    remaining = tables.all_rows("failures", _FAILURES_OF_TARGETS, **ids)
    errors = (row["message"] for row in remaining if target_of(row) in pairs)
    for row in tables.all_rows("segments", _SEGMENTS_OF_TARGETS, **ids):
        if not pairs.isdisjoint((row["video_id"], row[name]) for name in ("segment_id", "video_id")):
            for operation in SEGMENT_OPERATIONS:
                if row[operation] is not None:
                    found[operation] = row[operation] == "succeeded" and found[operation] is not False
    return found, next(errors, None)


def _retryable_run(session: Session, storage: Storage, caller: Principal, run_id: str) -> RunRecord:
    run = owned_run(session, caller, run_id, to_write=True)
    if run.is_local and run.manifest_number is None and run.status in FINAL:  # its items are not all known
        message = f"The run has not committed its tables; continue it with: promptreel run --resume {run_id}"
        raise ApiError(409, "run_not_finished", message, {"run_id": run_id, "status": run.status})
    if run.status not in FINAL:
        message = "The run is not finished; wait until it is, then retry."
        raise ApiError(409, "run_not_finished", message, {"run_id": run_id, "status": run.status})
    open_retry = select(RetryRecord.retry_id).where(
        RetryRecord.run_id == run_id, RetryRecord.status.not_in(RETRY_FINAL)
    )
    if (other := session.scalar(open_retry.limit(1))) is not None:
        message = "Another retry of this run is in progress; wait until it is finished."
        raise ApiError(409, "retry_in_progress", message, {"run_id": run_id, "retry_id": other}, retry_after_s=2)
    if is_running(storage, run_id):
        message = "The command line works on this run; wait until it is finished, then retry."
        raise ApiError(409, "run_not_finished", message, {"run_id": run_id, "status": run.status}, retry_after_s=5)
    return run


def _check_items(session: Session, run_id: str, video_ids: Sequence[str]) -> None:
    """Check that media items are part of a run.

    Raises:
        ApiError: 404 if some are not; it names them all.
    """
    if unknown := [
        video_id for video_id in dict.fromkeys(video_ids) if session.get(RunItem, (run_id, video_id)) is None
    ]:
        raise none_found("video", unknown)


def _uncommitted_failures(session: Session, run: RunRecord, video_id: str, segment_id: str) -> Sequence[Row]:
    """Return the failures of all items of a run without a commit: a commit with one of them would lose the others."""
    rows = failure_rows(session, run, None)
    if (video_id, segment_id) not in {(row["video_id"], entry_id(row)) for row in rows}:
        raise not_found("segment", segment_id)
    return rows


def failures_of_segment(tables: RunTables, run_id: str, video_id: str, segment_id: str) -> Sequence[Row]:
    """Return the failures that the manifest lists under an item and segment id, and those of the same failed call.

    Raises:
        ApiError: 404 if the segment does not exist, 409 if it has no failures.
    """
    if next(tables.rows("media", video_id), None) is None:
        raise not_found("segment", segment_id)
    rows = list(tables.rows("failures", video_id))
    failed = [row for row in rows if entry_id(row) == segment_id]
    if failed:
        shared = _sharing_a_call(tables, video_id, segment_id)
        return [*failed, *(r for r in rows if r["operation"] == "field_extraction" and r["segment_id"] in shared)]
    segments = tables.rows("segments", video_id)
    if segment_id != video_id and all(row["segment_id"] != segment_id for row in segments):
        raise not_found("segment", segment_id)
    message = f"Segment {segment_id} has no failures in run {run_id}."
    raise ApiError(409, "segment_not_failed", message, {"run_id": run_id})


def _sharing_a_call(tables: RunTables, video_id: str, segment_id: str) -> set[str]:
    """Return the other segments that are near-duplicates of a segment, and share its call."""
    answered_by = {
        row["segment_id"]: row.get("answered_by_segment_id") or row["segment_id"]
        for row in tables.rows("segments", video_id)
    }
    call = answered_by.get(segment_id)
    return {other for other, answer in answered_by.items() if answer == call and other != segment_id}


def _scope_of(failures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the scope of a retry of these failures, as stored in the database."""
    targets = dict.fromkeys(target_of(row) for row in failures)
    return {"targets": [list(pair) for pair in targets], "operations": sorted({row["operation"] for row in failures})}


def _is_selected(row: dict[str, Any], body: RetryFailures) -> bool:
    return (
        (
            not body.operations
            or not {row["operation"], reported_operation(row["operation"])}.isdisjoint(body.operations)
        )
        and (not body.codes or row["code"] in body.codes)
        and (not body.video_ids or row["video_id"] in body.video_ids)
    )


def _store_retry(
    session: Session,
    caller: Principal,
    run: RunRecord,
    scope: dict[str, Any],
    key: str | None,
    video_id: str | None,
    segment_id: str | None,
) -> RetryRecord:
    retry = RetryRecord(
        retry_id=new_id("retry"),
        account_id=caller.account_id,
        run_id=run.run_id,
        video_id=video_id,
        segment_id=segment_id,
        scope=scope,
        status="pending",
        outcome={},
        idempotency_key=key,
        created_at=now(),
    )
    session.add(retry)
    session.flush()
    return retry
