"""Exports in the database: queue, look up, render."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import now, required_time, wire_time
from promptreel.api.db.ids import new_id
from promptreel.api.db.models import Export, RunRecord
from promptreel.api.runs.statuses import FINAL
from promptreel.api.runs.store import owned_run, owned_runs
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import conflict, invalid, name_ids, not_found
from promptreel.schemas.wire.exports import CreateIndexExport, CreateRunExport

MAX_ATTEMPTS: Final = 3
DOWNLOAD_URL_LIFETIME_S: Final = 300

_STATUS: Final = {"queued": "pending", "running": "processing", "succeeded": "completed", "dead_letter": "failed"}


def create_run_export(session: Session, caller: Principal, run_id: str, body: CreateRunExport | None) -> Export:
    """Queue an export of a run.

    Raises:
        ApiError: 404 if the run does not exist, 409 if it is not finished, 422 if the body names a destination.
    """
    run = owned_run(session, caller, run_id)
    if run.status not in FINAL:
        raise conflict("run_not_finished", "The run is not finished; wait until it is, then export it.", run_id=run_id)
    return _queue(session, caller, "prompt_run", run_id, [run_id], body)


def create_index_export(session: Session, caller: Principal, index_id: str, body: CreateIndexExport | None) -> Export:
    """Queue an export of the finished runs over an index, or of selected ones. The index must belong to the caller.

    Raises:
        ApiError: 404 if a selected run does not exist, 409 if it is not finished, 422 if it is not over this index
            or the body names a destination.
    """
    runs = select(RunRecord).where(RunRecord.account_id == caller.account_id, RunRecord.index_id == index_id)
    newest_first = runs.where(RunRecord.status.in_(FINAL)).order_by(
        RunRecord.created_at.desc(), RunRecord.run_id.desc()
    )
    if body is None or body.prompt_run_ids is None:
        return _queue(session, caller, "index", index_id, [run.run_id for run in session.scalars(newest_first)], body)
    selected = list(dict.fromkeys(body.prompt_run_ids))
    named = owned_runs(session, caller, selected)
    if outside := [run.run_id for run in named if run.index_id != index_id]:
        raise invalid(f"prompt_run_ids: {name_ids(outside)}: not over index {index_id}", "prompt_run_ids")
    if unfinished := [run.run_id for run in named if run.status not in FINAL]:
        message = f"Not finished: {name_ids(unfinished)}; wait until these runs are, then export them."
        raise conflict("run_not_finished", message, run_id=unfinished[0])
    return _queue(session, caller, "index", index_id, selected, body)


def owned_export(session: Session, caller: Principal, export_id: str) -> Export:
    """Return an export of the caller.

    Raises:
        ApiError: 404 if it does not exist or belongs to another account.
    """
    export = session.get(Export, export_id)
    if export is None or export.account_id != caller.account_id:
        raise not_found("export", export_id)
    return export


def export_status(export: Export) -> str:
    """Return the status of an export, as named by the API."""
    return _STATUS[export.queue_status]


def export_body(export: Export) -> dict[str, Any]:
    """Render an export as JSON values. Clients expect exactly these keys."""
    is_done = export.queue_status == "succeeded"
    return {
        "export_id": export.export_id,
        "export_type": export.export_type,
        "target_id": export.target_id,
        "created_at": required_time(export.created_at),
        "status": export_status(export),
        "queue_status": export.queue_status,
        "attempts": export.attempts,
        "max_attempts": MAX_ATTEMPTS,
        "available_at": wire_time(export.available_at),
        "started_at": wire_time(export.started_at),
        "completed_at": wire_time(export.completed_at),
        "updated_at": wire_time(export.updated_at),
        "download_url": f"/api/v2/exports/{export.export_id}/download" if is_done else None,
        "file_size_bytes": export.file_size_bytes,
        "error_message": export.last_error if export.queue_status == "dead_letter" else None,
        "last_error": export.last_error,
        "destination_type": "download",
        "destination_connector_id": None,
        "destination_base_path": None,
        "destination_subpath": None,
        "destination_uri": None,
        "gcs_uri": f"export://{export.export_id}" if is_done else None,
        "export_params": export.params,
    }


def _queue(
    session: Session,
    caller: Principal,
    export_type: str,
    target_id: str,
    run_ids: list[str],
    body: CreateRunExport | None,
) -> Export:
    for name in ("destination_connector_id", "destination_base_path", "destination_subpath"):
        if getattr(body, name, None):
            raise invalid(f"{name}: connectors are not supported; omit this field and download the file", name)
    created_at = now()
    export = Export(
        export_id=new_id("exp"),
        account_id=caller.account_id,
        export_type=export_type,
        target_id=target_id,
        run_ids=run_ids,
        params=_params(body) or None,
        queue_status="queued",
        attempts=0,
        available_at=created_at,
        created_at=created_at,
        updated_at=created_at,
        lease_fence=0,
        lease_beat=0,
    )
    session.add(export)
    return export


def _params(body: CreateRunExport | None) -> dict[str, Any]:
    """Return the options that the request sets. Clients accept no other keys than the known ones."""
    return {} if body is None else body.model_dump(exclude_none=True, include=set(type(body).model_fields))
