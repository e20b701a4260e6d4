"""Exports: results of runs as one JSON file, written by a thread of the service from the committed tables.

The queue is the database: what waits, or was under way when its process died, is taken up by the next one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from promptreel.api.auth import Principal
from promptreel.api.catalog import owned_videos, video_body
from promptreel.api.clock import now, required_time, wire_time
from promptreel.api.config import ApiConfig
from promptreel.api.database import Database, Export, PromptRun, Video
from promptreel.api.errors import invalid, not_found
from promptreel.api.events import record_event
from promptreel.api.ids import new_id
from promptreel.api.json_response import JsonResponse
from promptreel.api.leases import SILENT_BEATS, Watch, new_owner
from promptreel.api.results import (
    RunTables,
    run_tables,
    segment_result,
    segment_views,
    video_result,
)
from promptreel.api.runs import FINAL, conflict, owned_run, run_body
from promptreel.schemas.wire.exports import CreateIndexExport, CreateRunExport
from promptreel.tables.storage import Storage

_log = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 3
DOWNLOAD_URL_LIFETIME_S: Final = 300
_LOOK_EVERY_S: Final = 0.25
_SEGMENTS_AT_ONCE: Final = 500
_ITEMS_AT_ONCE: Final = 500
_ERROR_CHARS: Final = 1000
_STATUS: Final = {"queued": "pending", "running": "processing", "succeeded": "completed", "dead_letter": "failed"}
_LONGEST_DELAY: Final = timedelta(minutes=5)


# ------------------------------------------------------------------------------------------- what callers ask for


def create_run_export(session: Session, caller: Principal, run_id: str, body: CreateRunExport | None) -> Export:
    """Queues an export of a run.

    Raises:
        ApiError: 404 where the run does not exist, 409 where it has not ended, 422 for a destination that there is not.
    """
    run = owned_run(session, caller, run_id)
    if run.status not in FINAL:
        raise conflict("run_not_finished", "The run is not finished; export it when it is.", run_id=run_id)
    return _queued(session, caller, "prompt_run", run_id, [run_id], body)


def create_index_export(session: Session, caller: Principal, index_id: str, body: CreateIndexExport | None) -> Export:
    """Queues an export of the runs over an index; the caller has shown that the index is its own.

    Raises:
        ApiError: 404 where a named run does not exist, 409 where it has not ended, 422 where it is over something else.
    """
    over = select(PromptRun).where(PromptRun.account_id == caller.account_id, PromptRun.index_id == index_id)
    newest_first = over.where(PromptRun.status.in_(FINAL)).order_by(
        PromptRun.created_at.desc(), PromptRun.run_id.desc()
    )
    if body is None or body.prompt_run_ids is None:
        return _queued(session, caller, "index", index_id, [run.run_id for run in session.scalars(newest_first)], body)
    wanted = list(dict.fromkeys(body.prompt_run_ids))
    for run_id in wanted:
        run = owned_run(session, caller, run_id)
        if run.index_id != index_id:
            raise invalid(f"prompt_run_ids: {run_id} is no run over index {index_id}", "prompt_run_ids")
        if run.status not in FINAL:
            raise conflict("run_not_finished", f"Run {run_id} is not finished; export it when it is.", run_id=run_id)
    return _queued(session, caller, "index", index_id, wanted, body)


def owned_export(session: Session, caller: Principal, export_id: str) -> Export:
    """The caller's export of that id.

    Raises:
        ApiError: 404, also where it is another account's.
    """
    export = session.get(Export, export_id)
    if export is None or export.account_id != caller.account_id:
        raise not_found("export", export_id)
    return export


def export_status(export: Export) -> str:
    """How far it is, in the wire's words."""
    return _STATUS[export.queue_status]


def export_body(export: Export) -> dict[str, Any]:
    """An export as the wire shows it: exactly these keys."""
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


def _queued(
    session: Session,
    caller: Principal,
    export_type: str,
    target_id: str,
    run_ids: list[str],
    body: CreateRunExport | None,
) -> Export:
    for name in ("destination_connector_id", "destination_base_path", "destination_subpath"):
        if getattr(body, name, None):
            raise invalid(f"{name}: there are no connectors here; leave it out and download the file", name)
    moment = now()
    export = Export(
        export_id=new_id("exp"),
        account_id=caller.account_id,
        export_type=export_type,
        target_id=target_id,
        run_ids=run_ids,
        params=(body.model_dump(exclude_none=True) if body is not None else None) or None,
        queue_status="queued",
        attempts=0,
        available_at=moment,
        created_at=moment,
        updated_at=moment,
        lease_fence=0,
        lease_beat=0,
    )
    session.add(export)
    return export


# ------------------------------------------------------------------------------------------- what the file holds


def write_export(
    database: Database, storage: Storage, export: Export, target: IO[bytes], go_on: Callable[[], None]
) -> None:
    """Writes the file of an export: its runs, each with its prompt and its media, these with their segments as the results
    list shows them, and their synthesis. Media that was deleted is left out, and a run without tables has no media.

    Args:
        go_on: called between portions; it may raise to end the work.
    """
    head = {
        "export_id": export.export_id,
        "export_type": export.export_type,
        "target_id": export.target_id,
        "exported_at": required_time(now()),
    }
    target.write(_json(head)[:-1] + b',"runs":[')
    for number, run_id in enumerate(export.run_ids):
        with database.read() as session:
            run = session.get(PromptRun, run_id)
        assert run is not None  # runs are never removed
        target.write(b"," if number else b"")
        _write_run(database, storage, export.account_id, run, target, go_on)
    target.write(b"]}\n")


def _write_run(
    database: Database, storage: Storage, account_id: str, run: PromptRun, target: IO[bytes], go_on: Callable[[], None]
) -> None:
    tables = run_tables(storage, run.run_id)
    number = tables.manifest.number if tables is not None else None
    head = {"run": run_body(run), "prompt": run.prompt, "manifest_number": number}
    target.write(_json(head)[:-1] + b',"media":[')
    separator = b""
    for video in _media(database, account_id, tables):
        assert tables is not None
        target.write(separator + _json({"video": video_body(video)})[:-1] + b',"segments":[')
        separator = b","
        segments = iter(tables.rows("segments", video.video_id))
        first = True
        while portion := list(islice(segments, _SEGMENTS_AT_ONCE)):
            go_on()
            for view in segment_views(tables, video.video_id, portion):
                target.write((b"" if first else b",") + _json(segment_result(run, video, view)))
                first = False
        target.write(b'],"video_result":' + _json(video_result(tables, run, video.video_id, video)) + b"}")
    target.write(b"]}")


def _media(database: Database, account_id: str, tables: RunTables | None) -> Iterator[Video]:
    """The items of a run that still exist."""
    video_ids = iter([row["video_id"] for row in tables.all_rows("media")] if tables is not None else [])
    owner = Principal(account_id, "", ())
    while portion := list(islice(video_ids, _ITEMS_AT_ONCE)):
        with database.read() as session:
            found = owned_videos(session, owner, portion)
        yield from (found[video_id] for video_id in portion if video_id in found)


def _json(content: Any) -> bytes:
    return bytes(JsonResponse(content).body) if content is not None else b"null"


# ------------------------------------------------------------------------------------------- who writes it


class _Stopped(Exception):
    """The service ends."""


class _LeaseLost(Exception):
    """Another process took this one for dead."""


class ExportWorker:
    """Writes the queued exports of one database, one at a time. Several workers may share it: leases decide."""

    def __init__(self, database: Database, storage: Storage, config: ApiConfig) -> None:
        self._database = database
        self._storage = storage
        self._heartbeat_s = config.heartbeat_s
        self._owner = new_owner()
        self._watch = Watch(SILENT_BEATS * config.heartbeat_s)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="exports", daemon=True)

    def start(self) -> None:
        """Begins to work, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the work; an export under way is given back to the queue."""
        self._stopping.set()
        self._thread.join(timeout=30)

    def _work(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            try:
                while not self._stopping.is_set() and self.step():
                    pass
            except Exception:
                _log.exception("the export worker stumbled; it goes on")

    def step(self) -> bool:
        """Writes the next export; False where there is none."""
        self._give_back_orphans()
        export = self._take_next()
        if export is None:
            return False
        try:
            name, size = self._write(export)
        except _LeaseLost:
            _log.warning("lease lost", extra={"export_id": export.export_id})
        except _Stopped:
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
                raise _Stopped
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

    def _give_back_orphans(self) -> None:
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
