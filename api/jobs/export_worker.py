"""The export worker: a thread of the service that writes queued exports.

The queue is in the database, so the next process continues exports that were queued or running when one died.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import or_, select, update

from promptreel.api.config import ApiConfig
from promptreel.api.db.clock import now
from promptreel.api.db.engine import Database
from promptreel.api.db.events import record_event
from promptreel.api.db.models import Export
from promptreel.api.jobs.worker_loop import WorkerLoop
from promptreel.api.jobs.write_export import write_export
from promptreel.api.runs.exports import MAX_ATTEMPTS, export_status
from promptreel.tables.storage import Storage

_log = logging.getLogger(__name__)

_MAX_ERROR_CHARS: Final = 1000
_MAX_DELAY: Final = timedelta(minutes=5)


class _ExportStopped(Exception):
    """The service is stopping."""


class _LeaseLost(Exception):
    """Another worker took over the export."""


class ExportWorker(WorkerLoop):
    """Writes the queued exports of a database, one at a time. Several workers may share it; leases assign each export
    to one of them. When the loop is stopped, the current export returns to the queue."""

    def __init__(self, database: Database, storage: Storage, config: ApiConfig) -> None:
        super().__init__("exports", config.heartbeat_s)
        self._database = database
        self._storage = storage

    def step(self) -> bool:
        """Write the next export; return False if none is queued."""
        self._requeue_orphans()
        export = self._claim_next()
        if export is None:
            return False
        try:
            name, size = self._write(export)
        except _LeaseLost:
            _log.warning("lease lost", extra={"export_id": export.export_id})
        except _ExportStopped:
            self._end(export, queue_status="queued", attempts=export.attempts - 1, lease_owner=None)
        except Exception as error:
            _log.exception("export %s failed", export.export_id)
            self._fail(export, error)
        else:
            values = {"queue_status": "succeeded", "file": name, "file_size_bytes": size, "last_error": None}
            if not self._end(export, "export.ready", completed_at=now(), lease_owner=None, **values):
                self._storage.remove(name)
        return True

    def _write(self, export: Export) -> tuple[str, int]:
        name = f"exports/{export.export_id}-{export.lease_fence}.json"
        next_beat = time.monotonic() + self._heartbeat_s

        def checkpoint() -> None:
            nonlocal next_beat
            if self._stopping.is_set():
                raise _ExportStopped
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._heartbeat_s
                self._beat(export)

        with self._storage.work_folder() as folder:
            path = Path(folder) / "export.json"
            with path.open("wb") as file:
                write_export(self._database, self._storage, export, file, checkpoint)
            size = path.stat().st_size
            self._storage.commit_file(path, name)
        return name, size

    def _claim_next(self) -> Export | None:
        current = now()
        # Retries are delayed. A time too far ahead means that the clock was set back; ignore it.
        is_due = or_(Export.attempts == 0, Export.available_at <= current, Export.available_at > current + _MAX_DELAY)
        waiting = select(Export).where(Export.queue_status == "queued", is_due)
        waiting = waiting.order_by(Export.available_at, Export.created_at, Export.export_id).limit(1)
        with self._database.read() as session:
            if session.scalar(waiting) is None:
                return None
        with self._database.write() as session:
            export = session.scalar(waiting.with_for_update(skip_locked=True))
            if export is None:
                return None
            export.queue_status = "running"
            export.attempts += 1
            export.lease_owner = self._owner
            export.lease_fence += 1
            export.started_at = export.started_at or current
            export.updated_at = current
            return export

    def _requeue_orphans(self) -> None:
        """Return the exports of dead workers to the queue."""
        with self._database.read() as session:
            running = list(session.scalars(select(Export).where(Export.queue_status == "running")))
        for export in running:
            owner = export.lease_owner
            if owner is None or self._watch.is_dead(export.export_id, owner, export.lease_fence, export.lease_beat):
                self._watch.drop(export.export_id)
                self._fail(export, RuntimeError("the process that wrote the export died"))

    def _beat(self, export: Export) -> None:
        with self._database.write() as session:
            done = session.execute(
                update(Export)
                .where(Export.export_id == export.export_id, Export.lease_fence == export.lease_fence)
                .where(Export.queue_status == "running")
                .values(lease_beat=Export.lease_beat + 1, updated_at=now())
                .execution_options(synchronize_session=False)
            )
        if done.rowcount != 1:  # type: ignore[attr-defined]
            raise _LeaseLost

    def _fail(self, export: Export, error: Exception) -> None:
        """Queue another attempt, or fail the export after the last one."""
        message = f"{type(error).__name__}: {error}"[:_MAX_ERROR_CHARS]
        if export.attempts >= MAX_ATTEMPTS:
            values = {"queue_status": "dead_letter", "completed_at": now()}
            self._end(export, "export.failed", last_error=message, lease_owner=None, **values)
            return
        retry_at = now() + timedelta(seconds=2**export.attempts)
        self._end(export, queue_status="queued", available_at=retry_at, last_error=message, lease_owner=None)

    def _end(self, export: Export, event: str | None = None, **values: Any) -> bool:
        """Store the end of an attempt; return False if another worker took over the export."""
        with self._database.write() as session:
            row = session.scalar(
                select(Export)
                .where(Export.export_id == export.export_id, Export.lease_fence == export.lease_fence)
                .where(Export.queue_status == "running")
                .with_for_update()
            )
            if row is None:
                return False
            for name, value in {**values, "updated_at": now()}.items():
                setattr(row, name, value)
            if event is not None:
                index_id = row.target_id if row.export_type == "index" else None
                run_id = row.target_id if row.export_type == "prompt_run" else None
                payload = {"export_id": row.export_id, "export_type": row.export_type, "status": export_status(row)}
                record_event(session, row.account_id, event, run_id=run_id, index_id=index_id, payload=payload)
            return True
