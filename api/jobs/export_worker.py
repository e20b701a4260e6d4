"""The export worker: a thread of the service that writes what is queued.

The queue is the database: what waits, or was under way when its process died, is taken up by the next one.
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


_ERROR_CHARS: Final = 1000


_LONGEST_DELAY: Final = timedelta(minutes=5)


# ------------------------------------------------------------------------------------------- who writes it


class _ExportStopped(Exception):
    """The service ends."""


class _LeaseLost(Exception):
    """Another process took this one for dead."""


class ExportWorker(WorkerLoop):
    """Writes the queued exports of one database, one at a time. Several workers may share it: leases decide. An export under
    way when the loop is stopped goes back to the queue."""

    def __init__(self, database: Database, storage: Storage, config: ApiConfig) -> None:
        super().__init__("exports", config.heartbeat_s)
        self._database = database
        self._storage = storage

    def step(self) -> bool:
        """Writes the next export; False where there is none."""
        self._requeue_orphans()
        export = self._take_next()
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

        def go_on() -> None:
            nonlocal next_beat
            if self._stopping.is_set():
                raise _ExportStopped
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._heartbeat_s
                self._beat(export)

        with self._storage.work_folder() as folder:
            path = Path(folder) / "export.json"
            with path.open("wb") as file:
                write_export(self._database, self._storage, export, file, go_on)
            size = path.stat().st_size
            self._storage.commit_file(path, name)
        return name, size

    def _take_next(self) -> Export | None:
        moment = now()
        # A retry waits a little; a clock that was set back must not make it wait for hours.
        is_due = or_(Export.attempts == 0, Export.available_at <= moment, Export.available_at > moment + _LONGEST_DELAY)
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
            export.started_at = export.started_at or moment
            export.updated_at = moment
            return export

    def _requeue_orphans(self) -> None:
        """Puts exports whose workers are dead back into the queue."""
        with self._database.read() as session:
            running = list(session.scalars(select(Export).where(Export.queue_status == "running")))
        for export in running:
            owner = export.lease_owner
            if owner is None or self._watch.is_dead(export.export_id, owner, export.lease_fence, export.lease_beat):
                self._watch.forget(export.export_id)
                self._fail(export, RuntimeError("the process that wrote it has died"))

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
        """Queues another attempt, or ends the export after the last one."""
        message = f"{type(error).__name__}: {error}"[:_ERROR_CHARS]
        if export.attempts >= MAX_ATTEMPTS:
            last = {"queue_status": "dead_letter", "completed_at": now()}
            self._end(export, "export.failed", last_error=message, lease_owner=None, **last)
            return
        again = now() + timedelta(seconds=2**export.attempts)
        self._end(export, queue_status="queued", available_at=again, last_error=message, lease_owner=None)

    def _end(self, export: Export, event: str | None = None, **values: Any) -> bool:
        """Writes the end of an attempt; False where the export is another worker's by now."""
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
