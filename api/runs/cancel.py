"""Cancel runs."""

from __future__ import annotations

from sqlalchemy.orm import Session

from promptreel.api.db.clock import now
from promptreel.api.db.events import record_event
from promptreel.api.db.models import RunRecord
from promptreel.api.runs.statuses import FINAL
from promptreel.api.runs.store import owned_run
from promptreel.api.runs.unstarted import counters_without_results
from promptreel.api.web.auth import Principal


def request_cancel(session: Session, caller: Principal, run_id: str) -> RunRecord:
    """Request that a run stops. A run that has not started is cancelled at once; a finished run does not change."""
    run = owned_run(session, caller, run_id, to_write=True)
    if run.status in FINAL or run.stop_requested_at is not None:
        return run
    run.stop_requested_at = now()
    run.stop_requested_by = caller.account_id
    if run.status == "pending" and run.lease_owner is None:
        cancel_unstarted(session, run)
    return run


def cancel_unstarted(session: Session, run: RunRecord) -> None:
    """End a run that no runner has started: all its items count as cancelled."""
    cancelled_at = now()
    run.status = "cancelled"
    run.stop_requested_at = run.stop_requested_at or cancelled_at
    run.stop_observed_at = run.stop_completed_at = run.completed_at = cancelled_at
    run.summary = {**run.summary, **counters_without_results(run.summary, "cancelled")}
    record_event(session, run.account_id, "prompt_run.cancelled", run_id=run.run_id, index_id=run.index_id)
