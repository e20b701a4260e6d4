"""The background job that makes runs of the command line visible: it follows their folders and stores what they say.

`promptreel run` writes folders and never uses the database. This job creates rows for folders that the database does not
have, and updates them while a runner of the command line works on a run. It starts, stops and changes no runner, except
that it forwards a cancellation as a stop file. Several services may do so for the same folder: each stores the same.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from promptreel.api.config import ApiConfig
from promptreel.api.db.clock import now
from promptreel.api.db.engine import Database
from promptreel.api.db.models import RunRecord
from promptreel.api.jobs.local_run_rows import is_taken, live_counters, store_local_run
from promptreel.api.jobs.worker_loop import WorkerLoop
from promptreel.api.runs.local_account import local_account
from promptreel.api.runs.local_run import FolderState, LocalRun, folder_state, read_local_run
from promptreel.schemas.errors import ExpectedError, RunNotFound, SettingsError, StateExpired
from promptreel.tables import layout
from promptreel.tables.attempts import last_attempt
from promptreel.tables.stop_signal import request_stop
from promptreel.tables.storage import LocalStorage, Storage

_log = logging.getLogger(__name__)

_FOLLOW_INTERVAL_S: Final = 1.0
_SCAN_INTERVAL_S: Final = 2.0
_REMOTE_SCAN_INTERVAL_S: Final = 30.0  # each listing of an object store costs money
_MAX_DAMAGED_INTERVAL_S: Final = 300.0  # between looks at a damaged folder, which may be the copy of one in progress
_RUNS_PER_STEP: Final = 20
_IDLE_RUNS_PER_SCAN: Final = 200
_IDS_PER_STATEMENT: Final = 500
_ATTEMPTS: Final = 3
_UNKNOWN_ATTEMPT: Final = -1


class LocalRuns(WorkerLoop):
    """Follows the runs of the command line in a data folder. A scan that finds nothing new only lists folders."""

    def __init__(self, database: Database, storage: Storage, config: ApiConfig) -> None:
        super().__init__("local-runs", config.heartbeat_s)
        self._database = database
        self._storage = storage
        self._config = config
        self._interval_s = _SCAN_INTERVAL_S if isinstance(storage, LocalStorage) else _REMOTE_SCAN_INTERVAL_S
        self._next_scan = self._next_follow = 0.0
        self._account_id: str | None = None
        self._new: deque[str] = deque()  # without rows, newest first
        self._active: dict[str, int | None] = {}  # followed, with the number of the tables whose items were stored last
        self._idle: dict[str, int] = {}  # stored, with the newest attempt at that time
        self._idle_to_check: deque[str] = deque()
        self._of_services: set[str] = set()
        self._damaged: dict[str, tuple[int, float]] = {}  # failures in a row, and when to look again
        self._warned: set[str] = set()

    def step(self) -> bool:
        """Look for changes whose time has come, and adopt some new runs; return whether more are waiting."""
        if time.monotonic() >= self._next_scan:
            self._next_scan = time.monotonic() + self._interval_s
            self.scan()
        if time.monotonic() >= self._next_follow:
            self._next_follow = time.monotonic() + _FOLLOW_INTERVAL_S
            for run_id in list(self._active):
                self._try(run_id)
        for _ in range(min(_RUNS_PER_STEP, len(self._new))):
            self._try(self._new.popleft())
        return bool(self._new)

    def scan(self) -> None:
        """Find new run folders, and idle runs with a new attempt."""
        names = {name for name in self._storage.list_names(layout.RUNS) if layout.is_run_id(name)}
        now_s = time.monotonic()
        damaged = {run_id for run_id, (_, again_s) in self._damaged.items() if now_s < again_s}
        seen = self._of_services | self._active.keys() | self._idle.keys() | damaged
        unknown = self._without_rows(names - seen)
        self._new = deque(sorted(unknown, reverse=True) if unknown and self._find_account() else ())
        self._check_idle()

    def adopt(self, run_id: str) -> None:
        """Store a run now.

        Raises:
            SettingsError: no account can own it.
            ExpectedError: its folder is not readable.
        """
        with self._database.read() as session:
            self._account_id = local_account(session, self._config)
        for _ in range(_ATTEMPTS - 1):
            with suppress(
                IntegrityError, StateExpired
            ):  # another service was faster, or the run commits states quickly
                return self._advance(run_id)
        return self._advance(run_id)

    # ------------------------------------------------------------------------------------------- finding

    def _without_rows(self, run_ids: Iterable[str]) -> list[str]:
        """Return the runs that the database does not have; note the status of the others."""
        wanted, missing = sorted(run_ids), []
        columns = (RunRecord.run_id, RunRecord.is_local, RunRecord.status)
        for first in range(0, len(wanted), _IDS_PER_STATEMENT):
            some = wanted[first : first + _IDS_PER_STATEMENT]
            with self._database.read() as session:
                rows = {row.run_id: row for row in session.execute(select(*columns).where(RunRecord.run_id.in_(some)))}
            for run_id in some:
                row = rows.get(run_id)
                if row is None:
                    missing.append(run_id)
                elif not row.is_local:
                    self._of_services.add(run_id)
                elif row.status == "processing":
                    self._active[run_id] = None
                else:
                    self._idle[run_id] = _UNKNOWN_ATTEMPT
        return missing

    def _find_account(self) -> bool:
        """Look up the account that owns new runs; warn once if no account can."""
        try:
            with self._database.read() as session:
                self._account_id = local_account(session, self._config)
        except SettingsError as error:
            self._account_id = None
            self._warn(str(error))
        return self._account_id is not None

    def _check_idle(self) -> None:
        """Look at some idle runs, in turn, for an attempt that has begun since: `promptreel run --resume`."""
        if not self._idle_to_check:
            self._idle_to_check.extend(sorted(self._idle, reverse=True))
        for _ in range(min(_IDLE_RUNS_PER_SCAN, len(self._idle_to_check))):
            run_id = self._idle_to_check.popleft()
            if run_id in self._idle and last_attempt(self._storage, run_id) != self._idle[run_id]:
                self._try(run_id)

    # ------------------------------------------------------------------------------------------- storing

    def _try(self, run_id: str) -> None:
        """Store what the folder of a run says. A damaged folder is logged once and affects no other run."""
        try:
            self._advance(run_id)
        except (OperationalError, InterfaceError, NoConnection):
            raise  # the database is not available, which is not the fault of the run
        except (StateExpired, IntegrityError, RunNotFound):
            pass  # changed meanwhile, stored by another service, or not complete yet: the next scan finds it again
        except Exception as error:
            self._set_aside(run_id, error)

    def _set_aside(self, run_id: str, error: Exception) -> None:
        """Look at a damaged folder again later, and later each time. A runner may have just removed what was read, so the
        first failure of a run that is followed is not logged."""
        failures = self._damaged.get(run_id, (0, 0.0))[0] + 1
        delay_s = min(_MAX_DAMAGED_INTERVAL_S, self._interval_s * 2 ** min(failures - 1, 10))
        self._damaged[run_id] = (failures, time.monotonic() + delay_s)
        was_followed = run_id in self._active
        self._active.pop(run_id, None)
        self._idle.pop(run_id, None)
        if failures > 1 or not was_followed:
            is_expected = isinstance(error, ExpectedError | OSError)
            text = f"run {run_id} cannot be shown: {error if is_expected else type(error).__name__}"
            self._warn(text, None if is_expected else error)

    def _advance(self, run_id: str) -> None:
        state = folder_state(self._storage, run_id)
        with self._database.read() as session:
            run = session.get(RunRecord, run_id)
            is_busy = run is not None and is_taken(session, run)
        if run is not None and not run.is_local:
            self._of_services.add(run_id)
            return
        is_known = run is not None and self._idle.get(run_id) == _UNKNOWN_ATTEMPT and _is_current(run, state)
        if not is_busy and not is_known:
            local = self._read(run_id, run, state)
            if local is not None:
                self._store(run, local)
        self._classify(run_id, state, is_busy)

    def _read(self, run_id: str, run: RunRecord | None, state: FolderState) -> LocalRun | None:
        """Read the folder of a run; None if nothing has changed, or if the run belongs to a service."""
        is_followed = run is not None and run.status == "processing" == state.status
        local = read_local_run(self._storage, run_id, state, self._active.get(run_id) if is_followed else None)
        if run is None and local.request.owner is not None:
            self._of_services.add(run_id)
            return None
        is_same = run is not None and local.items is None and not _is_stop_pending(run)
        return None if is_same and run is not None and live_counters(run, local) == run.summary else local

    def _store(self, run: RunRecord | None, local: LocalRun) -> None:
        assert run is not None or self._account_id is not None
        is_stopping = run is not None and _is_stop_pending(run) and local.state.status == "processing"
        run_id = local.request.run_id
        if run is not None and is_stopping:
            request_stop(self._storage, run_id, run.stop_requested_by or "api")
        with self._database.write() as session:
            is_stored = store_local_run(session, self._account_id or "", local)
            stored = session.get(RunRecord, run_id) if is_stored and is_stopping else None
            if stored is not None and _is_stop_pending(stored):
                stored.stop_observed_at = now()
        if is_stored and local.items is not None:
            self._active[run_id] = local.tables_number
        if run is None and is_stored:
            _log.info("run of the command line found", extra={"run_id": run_id})

    def _classify(self, run_id: str, state: FolderState, is_busy: bool) -> None:
        """Note whether a run is followed from now on."""
        self._damaged.pop(run_id, None)
        if run_id in self._of_services:
            return
        if is_busy or state.status == "processing":
            self._idle.pop(run_id, None)
            self._active.setdefault(run_id, None)
        else:
            self._active.pop(run_id, None)
            self._idle[run_id] = state.attempt

    def _warn(self, text: str, error: Exception | None = None) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning(text, exc_info=error)


def _is_stop_pending(run: RunRecord) -> bool:
    return run.stop_requested_at is not None and run.stop_observed_at is None


def _is_current(run: RunRecord, state: FolderState) -> bool:
    """Whether the row of a run already says what its folder says, or more."""
    is_same = (run.manifest_number or 0) == state.number and run.status == (state.status or "failed")
    return is_same or (run.manifest_number or 0) > state.number
