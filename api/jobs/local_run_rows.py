"""The database rows of runs of the command line: created and updated from what their folders say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import delete, exists, insert, select
from sqlalchemy.orm import Session

from promptreel.api.db.events import record_event
from promptreel.api.db.models import RetryRecord, RunItem, RunRecord, Video
from promptreel.api.jobs.run_rows import MEDIA_STATUSES, live_summary, mark_failed, mark_media, mark_started
from promptreel.api.runs.finish import finish_run
from promptreel.api.runs.local_run import LocalItem, LocalRun
from promptreel.api.runs.prompt_versions import register_version
from promptreel.api.runs.retries import RETRY_FINAL
from promptreel.api.runs.statuses import MEDIA_TYPES
from promptreel.api.uploads.local_files import LOCAL_KIND

_MAX_TITLE_CHARS: Final = 255
_IDS_PER_STATEMENT: Final = 500  # SQLite limits the parameters of a statement


def store_local_run(session: Session, account_id: str, local: LocalRun) -> bool:
    """Create the rows of a run for an account, or update them. Storing the same state again changes nothing.

    Returns:
        False if the rows must stay as they are: a retry by a service is in progress, or they are newer than `local`.
    """
    run = session.get(RunRecord, local.request.run_id, with_for_update=True)
    if run is None:
        run = _new_run(session, account_id, local)
    elif not run.is_local or (run.manifest_number or 0) > local.state.number or is_taken(session, run):
        return False
    run.settings = local.request.settings.to_dict()
    run.started_at = run.started_at or local.started_at
    is_new_manifest = (run.manifest_number or 0) != local.state.number
    if local.items is not None:
        added = _store_items(session, run, local.items, are_all=local.state.manifest is not None)
        _store_media(session, run, local.items if is_new_manifest else added)
    if local.state.status == "processing":
        _follow(session, run, local)
    elif local.state.manifest is None:
        _interrupt(session, run, local)
    elif is_new_manifest or run.status != local.state.status:
        run.summary = {**run.summary, **_totals(local)}
        run.completed_at = datetime.fromisoformat(local.state.manifest.committed_at).astimezone(UTC)
        finish_run(session, run, asdict(local.state.manifest))
        mark_media(session, run, _media_statuses(local), "not_processed")
    return True


def is_taken(session: Session, run: RunRecord) -> bool:
    """Whether a service works on the run: it has a retry that is not final."""
    retry = exists().where(RetryRecord.run_id == run.run_id, RetryRecord.status.not_in(RETRY_FINAL))
    return run.lease_owner is not None or bool(session.scalar(select(retry)))


def live_counters(run: RunRecord, local: LocalRun) -> dict[str, Any]:
    """Return the summary of a run while a runner works on it."""
    counts = local.interim.counts if local.interim is not None else {}
    before = {**run.summary, **_totals(local)}
    return {**live_summary(before, local.progress, counts), "service_state": local.service_state}


def _new_run(session: Session, account_id: str, local: LocalRun) -> RunRecord:
    request = local.request
    run = RunRecord(
        run_id=request.run_id,
        account_id=account_id,
        key_id=None,
        prompt_id=request.prompt.prompt_id,
        prompt_name=request.prompt.name,
        prompt=request.prompt.to_dict(),
        settings=request.settings.to_dict(),
        target={"type": "command_line", "media": list(request.target)},
        index_id=None,
        status="pending",  # until this transaction sets what the folder says
        summary={"warnings": []},
        created_at=local.created_at,
        name=request.labels.name,
        tags=dict(request.labels.tags) or None,
        prompt_version=register_version(session, account_id, request.prompt, request.prompt_version),
        is_local=True,
    )
    session.add(run)
    session.flush()
    return run


def _follow(session: Session, run: RunRecord, local: LocalRun) -> None:
    """Store the progress of a run that a command-line runner works on."""
    summary = live_counters(run, local)
    if run.status != "processing":
        run.completed_at = run.error_message = None
        run.stop_requested_at = run.stop_requested_by = run.stop_observed_at = run.stop_completed_at = None
        mark_started(session, run)
    if summary == run.summary:
        return
    run.summary = summary
    payload = {key: summary[key] for key in ("total_segments", "completed_segments", "model_calls")}
    record_event(session, run.account_id, "prompt_run.progress", run_id=run.run_id, payload=payload)


def _interrupt(session: Session, run: RunRecord, local: LocalRun) -> None:
    """Fail a run whose runner died before it committed anything."""
    if run.status == "failed":
        return
    run.summary = live_counters(run, local)
    cause = f": {local.last_error}" if local.last_error else ""
    continue_it = f"continue it with: promptreel run --resume {run.run_id}"
    mark_failed(session, run, f"the run was interrupted before it committed its tables{cause}; {continue_it}")


def _totals(local: LocalRun) -> dict[str, Any]:
    if local.totals is None:
        return {}
    totals = {f"total_{plural}": local.totals.get(kind, 0) for kind, plural in MEDIA_TYPES}
    has_video_level = local.request.prompt.video_level is not None
    return {
        **totals,
        "total_video_seconds": round(local.seconds, 3),
        "video_level_enabled": has_video_level,
        "video_level_total_items": totals["total_videos"] + totals["total_audios"] if has_video_level else 0,
    }


def _media_statuses(local: LocalRun) -> dict[str, str]:
    return {item.video_id: MEDIA_STATUSES[item.status] for item in local.items or ()}


def _store_items(session: Session, run: RunRecord, items: Sequence[LocalItem], *, are_all: bool) -> list[LocalItem]:
    """Store which items a run has; return those that it did not have before.

    Args:
        are_all: whether others are removed: an item that was not read has another id once a later attempt has read it.
    """
    known = set(session.scalars(select(RunItem.video_id).where(RunItem.run_id == run.run_id)))
    added = [item for item in items if item.video_id not in known]
    gone = sorted(known - {item.video_id for item in items}) if are_all else []
    for first in range(0, len(gone), _IDS_PER_STATEMENT):
        some = gone[first : first + _IDS_PER_STATEMENT]
        session.execute(delete(RunItem).where(RunItem.run_id == run.run_id, RunItem.video_id.in_(some)))
    if added:
        rows = [{"run_id": run.run_id, "video_id": item.video_id, "position": item.position} for item in added]
        session.execute(insert(RunItem), rows)
    return added


def _store_media(session: Session, run: RunRecord, items: Sequence[LocalItem]) -> None:
    """Store the media of a run that were read, outside of indexes. The newest run says where an item is."""
    read = [item for item in items if item.media_type is not None]
    for first in range(0, len(read), _IDS_PER_STATEMENT):
        some = read[first : first + _IDS_PER_STATEMENT]
        ids = [item.video_id for item in some]
        existing = {video.video_id: video for video in session.scalars(select(Video).where(Video.video_id.in_(ids)))}
        newer = (
            select(RunItem.video_id)
            .join(RunRecord, RunRecord.run_id == RunItem.run_id)
            .where(RunItem.video_id.in_(ids), RunRecord.is_local, RunRecord.created_at > run.created_at)
        )
        is_in_newer_run = set(session.scalars(newer)) if existing else set()
        for item in some:
            video = existing.get(item.video_id)
            if video is None:
                session.add(_new_video(run, item))
            elif _is_local_of(video, run) and item.video_id not in is_in_newer_run:
                video.media_uri, video.title = item.uri, item.name[:_MAX_TITLE_CHARS]
    session.flush()


def _is_local_of(video: Video, run: RunRecord) -> bool:
    return video.account_id == run.account_id and video.source_kind == LOCAL_KIND


def _new_video(run: RunRecord, item: LocalItem) -> Video:
    return Video(
        video_id=item.video_id,
        account_id=run.account_id,
        index_id=None,
        title=item.name[:_MAX_TITLE_CHARS],
        video_uri=f"media://{item.video_id}",
        media_uri=item.uri,
        source_kind=LOCAL_KIND,
        media_type=item.media_type,
        duration_us=item.duration_us,
        size_bytes=item.size_bytes,
        status=MEDIA_STATUSES[item.status],
        created_at=run.created_at,
        updated_at=run.created_at,
    )
