"""Look up the runs over one media item."""

from __future__ import annotations

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from promptreel.api.db.models import RunItem, RunRecord
from promptreel.api.runs.statuses import FINAL
from promptreel.api.runs.store import owned_run
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import not_found


def runs_over_video(caller: Principal, video_id: str) -> Select[RunRecord]:
    """Select the caller's runs over a media item, newest first."""
    return (
        select(RunRecord)
        .join(RunItem, RunItem.run_id == RunRecord.run_id)
        .where(RunRecord.account_id == caller.account_id, RunItem.video_id == video_id)
        .order_by(RunRecord.created_at.desc(), RunRecord.run_id.desc())
    )


def run_for_video(session: Session, caller: Principal, video_id: str, run_id: str | None) -> RunRecord | None:
    """Return a run by id, or the newest run over the item that has committed tables; without one, the newest in progress.

    Raises:
        ApiError: 404 if the run does not exist or belongs to another account, or the item is not part of it.
    """
    if run_id is not None:
        run = owned_run(session, caller, run_id)
        if session.get(RunItem, (run_id, video_id)) is None:
            raise not_found("video", video_id)
        return run
    committed = runs_over_video(caller, video_id).where(RunRecord.manifest_number.is_not(None))
    in_progress = runs_over_video(caller, video_id).where(RunRecord.status.not_in(FINAL))
    return session.scalars(committed.limit(1)).first() or session.scalars(in_progress.limit(1)).first()
