"""The supervisor executes queued runs and retries, each in a runner process, and takes over those of dead services.

A runner outlives the service that started it. A starting service finds the unfinished runs: it follows live runners,
stores the results of finished ones, and restarts dead ones a limited number of times. A restarted runner continues from
stored results. The last start does no new work: it commits what is stored.
"""

from __future__ import annotations

import logging
import subprocess
import time
from dataclasses import asdict
from typing import Final

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from promptreel.api.config import ApiConfig
from promptreel.api.db.clock import now
from promptreel.api.db.engine import Database
from promptreel.api.db.events import record_event
from promptreel.api.db.models import RetryRecord, RunRecord
from promptreel.api.jobs.job import Job
from promptreel.api.jobs.leases import (
    beat,
    leased_run,
    release,
    take_lease,
)
from promptreel.api.jobs.next_step import Facts, Finish, Follow, GiveUp, Resume, Start, Wait, next_step
from promptreel.api.jobs.run_rows import (
    count_start,
    end_retry,
    live_summary,
    mark_failed,
    mark_media,
    mark_started,
    media_statuses,
    oldest_waiting,
    open_retry_of,
    prepare_run_folder,
    runs_under_way,
)
from promptreel.api.jobs.worker_loop import WorkerLoop
from promptreel.api.runs.cancel import cancel_unstarted
from promptreel.api.runs.finish import finish_run
from promptreel.api.runs.retries import outcome_of
from promptreel.api.runs.service_status import with_service_state
from promptreel.api.web.idempotency import purge_expired
from promptreel.api.web.middleware import Metrics
from promptreel.schemas.errors import ExpectedError, RunError
from promptreel.tables.attempts import is_running, kill_runner
from promptreel.tables.interim import newest_interim
from promptreel.tables.live_parts import repair_published
from promptreel.tables.manifest import Manifest, newest_manifest
from promptreel.tables.progress import read_progress
from promptreel.tables.runner_command import runner_command
from promptreel.tables.runner_log import last_runner_error, open_runner_log
from promptreel.tables.stop_signal import request_stop
from promptreel.tables.storage import Storage

_log = logging.getLogger(__name__)

_PROGRESS_INTERVAL_S: Final = 1.0
# Runners enforce their deadline themselves; a runner that exceeds it by this much hangs.
_DEADLINE_GRACE_S: Final = 600.0
# About two minutes, with the delays between them.
_MAX_CONSECUTIVE_FAILURES: Final = 10
_PURGE_INTERVAL_S: Final = 600.0


class Supervisor(WorkerLoop):
    """Executes the runs of a database. Several supervisors may share it; leases assign each run to one of them."""

    def __init__(self, database: Database, storage: Storage, config: ApiConfig, metrics: Metrics) -> None:
        super().__init__("supervisor", config.heartbeat_s)
        self._database = database
        self._storage = storage
        self._config = config
        self._metrics = metrics
        self._jobs: dict[str, Job] = {}
        self._next_beat = self._next_purge = 0.0

    def release_leases(self) -> None:
        """Release the leases for the next supervisor; the runners continue."""
        with self._database.write() as session:
            for job in self._jobs.values():
                if (run := leased_run(session, job.lease)) is not None:
                    release(run)

    def step(self) -> bool:
        """Send heartbeats, advance each job, take over runs of dead supervisors, and start pending runs."""
        self._beat()
        for job in list(self._jobs.values()):
            self._try_advance(job)
        self._take_over()
        self._start_waiting()
        self._purge_responses()
        self._metrics.running.set(len(self._jobs))
        return False

    def _purge_responses(self) -> None:
        if time.monotonic() >= self._next_purge:
            self._next_purge = time.monotonic() + _PURGE_INTERVAL_S
            with self._database.write() as session:
                purge_expired(session)

    # ------------------------------------------------------------------------------------------- leases

    def _beat(self) -> None:
        if time.monotonic() < self._next_beat or not self._jobs:
            return
        self._next_beat = time.monotonic() + self._config.heartbeat_s
        with self._database.write() as session:
            lost = [job for job in self._jobs.values() if not beat(session, job.lease)]
        for job in lost:
            _log.warning("lease lost", extra={"run_id": job.lease.run_id})
            self._drop(job)

    def _drop(self, job: Job) -> None:
        """Drop a job whose lease was lost; the new owner follows or resumes its runner."""
        self._jobs.pop(job.lease.run_id, None)

    def _take_over(self) -> None:
        """Take over the runs of dead owners."""
        with self._database.read() as session:
            rows = runs_under_way(session)
        for row in rows:
            if row.run_id in self._jobs:
                continue
            if row.lease_owner is None or self._watch.is_dead(
                row.run_id, row.lease_owner, row.lease_fence, row.lease_beat
            ):
                self._watch.drop(row.run_id)
                with self._database.write() as session:
                    lease = take_lease(session, row, self._owner)
                    retry = open_retry_of(session, row.run_id)
                if lease is not None:
                    job = Job(lease, retry.retry_id if retry is not None else None, None)
                    self._jobs[row.run_id] = job
                    _log.info("run taken over", extra={"run_id": row.run_id})

    # ------------------------------------------------------------------------------------------- starting

    def _start_waiting(self) -> None:
        """Start pending runs and retries, oldest first, up to `max_running`."""
        while len(self._jobs) < self._config.max_running and self._start_next():
            pass

    def _start_next(self) -> bool:
        """Start the oldest pending run or retry; return False if none is pending. Rows locked by another transaction (a
        cancellation, another supervisor) are skipped."""
        with self._database.write() as session:
            run, retry = oldest_waiting(session)
            if run is None:
                return False
            if retry is None and run.stop_requested_at is not None:
                cancel_unstarted(session, run)
                return True
            lease = take_lease(session, run, self._owner)
            if lease is None:
                return True
            session.refresh(run)
            if retry is None:
                mark_started(session, run)
            else:
                retry.status, retry.started_at = "processing", now()
        retry_id = retry.retry_id if retry is not None else None
        job = Job(lease, retry_id, None, start_at_s=time.monotonic())
        self._jobs[lease.run_id] = job
        self._try_advance(job)
        return True

    def _start_runner(self, job: Job) -> None:
        """Start the runner of a job, or fail the job if it has no starts left or its folder can never be created.

        Raises:
            RunError: the folder cannot be created now.
        """
        try:
            with self._database.read() as session:
                prepare_run_folder(session, self._storage, job.lease.run_id, job.retry_id)
        except RunError:
            raise
        except ExpectedError as error:
            self._fail(job, str(error))
            return
        with self._database.write() as session:
            run = leased_run(session, job.lease)
            if run is None:
                self._drop(job)
                return
            starts = count_start(session, run, job.retry_id)
        if starts > self._last_start:
            self._fail(job)
            return
        if starts > 1:
            self._metrics.restarts.inc()
        is_last = starts == self._last_start
        command = runner_command(
            self._storage,
            job.lease.run_id,
            retry_id=job.retry_id,
            commit_only=self._interruption(job, starts - 1) if is_last else None,
        )
        with open_runner_log(self._storage, job.lease.run_id) as log:
            # In a new session, so that signals that end this service do not end the runner.
            job.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        job.started_s = time.monotonic()
        job.start_at_s = None
        _log.info("runner started", extra={"run_id": job.lease.run_id, "retry_id": job.retry_id})

    @property
    def _last_start(self) -> int:
        """Number of the start that only commits, after the first start and all resumes."""
        return self._config.max_resumes + 2

    def _interruption(self, job: Job, deaths: int) -> str:
        """Return the error of operations that were not done when the runner died for the last time."""
        cause = last_runner_error(self._storage, job.lease.run_id)
        return f"the runner died {deaths} times before this was done" + (f"; last error: {cause}" if cause else "")

    # ------------------------------------------------------------------------------------------- following

    def _try_advance(self, job: Job) -> None:
        """Advance a job. An exception does not affect other jobs: this one is retried later, and finally failed."""
        try:
            if time.monotonic() >= job.retry_at_s:
                self._advance(job)
                job.consecutive_failures = 0
        except Exception as error:
            _log.exception("a step of a run failed", extra={"run_id": job.lease.run_id})
            # A database failure affects all jobs; the next step retries it without counting it against this job.
            if not isinstance(error, OperationalError | InterfaceError | NoConnection):
                self._record_failure(job, error)

    def _record_failure(self, job: Job, error: Exception) -> None:
        job.consecutive_failures += 1
        job.retry_at_s = time.monotonic() + _delay_s(job.consecutive_failures)
        if job.consecutive_failures < _MAX_CONSECUTIVE_FAILURES:
            return
        is_expected = isinstance(error, ExpectedError | OSError)
        cause = str(error) if is_expected else f"{type(error).__name__}; see the service's log"
        try:
            if not self._is_alive(job):
                self._fail(job, f"the run cannot continue after {job.consecutive_failures} attempts: {cause}")
        except Exception:
            _log.exception("cannot mark a run as failed", extra={"run_id": job.lease.run_id})

    def _advance(self, job: Job) -> None:
        match next_step(self._facts(job)):
            case Start():
                self._start_runner(job)
            case Follow():
                self._follow(job)
            case Finish(manifest):
                self._finish(job, manifest)
            case Resume(starts):
                _log.warning("runner died; restarting it", extra={"run_id": job.lease.run_id})
                job.process = None
                job.start_at_s = time.monotonic() + _delay_s(starts)
            case GiveUp():
                self._fail(job)
            case Wait():
                pass

    def _facts(self, job: Job) -> Facts:
        """Collect the state of a job. Its manifest and starts are read only if its runner is dead."""
        now_s = time.monotonic()
        if job.start_at_s is not None:
            return Facts(now_s, job.start_at_s)
        if self._is_alive(job):
            return Facts(now_s, None, is_alive=True)
        manifest = newest_manifest(self._storage, job.lease.run_id)
        with self._database.read() as session:
            run = session.get(RunRecord, job.lease.run_id)
            retry = session.get(RetryRecord, job.retry_id) if job.retry_id is not None else None
        is_new = manifest is not None and run is not None and manifest.number > (run.manifest_number or 0)
        counted = retry or run
        return Facts(
            now_s,
            None,
            commit=manifest if is_new else None,
            starts=counted.starts if counted is not None else 0,
            last_start=self._last_start,
        )

    def _is_alive(self, job: Job) -> bool:
        """Whether a runner, started by this or an earlier service, executes the run."""
        if job.process is not None and job.process.poll() is None:
            return True
        return is_running(self._storage, job.lease.run_id)

    def _follow(self, job: Job) -> None:
        """Forward a stop request to the runner, store its progress, and kill it if it hangs."""
        if time.monotonic() < job.next_progress_s:
            return
        job.next_progress_s = time.monotonic() + _PROGRESS_INTERVAL_S
        progress = read_progress(self._storage, job.lease.run_id)
        limit_s = self._config.run_deadline_s
        if limit_s is not None and time.monotonic() - job.started_s > limit_s + _DEADLINE_GRACE_S:
            if job.process is not None:
                job.process.kill()
            else:
                kill_runner(self._storage, job.lease.run_id)
        with self._database.read() as session:
            run = session.get(RunRecord, job.lease.run_id)
        if run is None:
            return
        stop = run.stop_requested_at is not None and run.stop_observed_at is None and job.retry_id is None
        summary = run.summary
        if job.retry_id is None:
            job.interim = newest_interim(self._storage, run.run_id, job.interim) or job.interim
            summary = live_summary(run.summary, progress, job.interim.counts if job.interim is not None else {})
        summary = with_service_state(summary, self._storage, run.run_id)
        if not stop and summary == run.summary:
            return
        if stop:
            request_stop(self._storage, run.run_id, run.stop_requested_by or "api")
        with self._database.write() as session:
            held = leased_run(session, job.lease)
            if held is None:
                return
            counted = held.summary.get("actual_cost"), summary.get("actual_cost")
            held.summary = summary
            if stop:
                held.stop_observed_at = now()
            record_event(
                session,
                held.account_id,
                "prompt_run.progress",
                run_id=held.run_id,
                index_id=held.index_id,
                payload={key: summary[key] for key in ("total_segments", "completed_segments", "model_calls")},
            )
        self._metrics.count_cost(run.settings["model"]["model"], *counted)

    # ------------------------------------------------------------------------------------------- ending

    def _finish(self, job: Job, manifest: Manifest) -> None:
        """Store the result of a committed manifest. Its runner may have died before it published the tables."""
        repair_published(self._storage, job.lease.run_id)
        values = asdict(manifest)
        statuses = media_statuses(self._storage, job.lease.run_id)
        outcome = self._outcome_of_retry(job)
        with self._database.write() as session:
            run = leased_run(session, job.lease)
            if run is None:
                self._drop(job)
                return
            before = run.summary.get("actual_cost")
            finish_run(session, run, values)
            counted = before, run.summary["actual_cost"]
            model = run.settings["model"]["model"]
            if job.retry_id is not None:
                retry = session.get(RetryRecord, job.retry_id)
                assert retry is not None
                end_retry(retry, *outcome)
            mark_media(session, run, statuses, "not_processed")
            release(run)
            status = run.status
        self._jobs.pop(job.lease.run_id, None)
        self._metrics.ended.labels(status).inc()
        self._metrics.count_cost(model, *counted)
        _log.info("run ended: %s", status, extra={"run_id": job.lease.run_id, "retry_id": job.retry_id})

    def _outcome_of_retry(self, job: Job) -> tuple[dict[str, bool | None], str | None]:
        """Return the outcome and error of a retry, see `outcome_of`; empty if the job is not a retry."""
        if job.retry_id is None:
            return {}, None
        with self._database.read() as session:
            retry = session.get(RetryRecord, job.retry_id)
            assert retry is not None
        return outcome_of(self._storage, job.lease.run_id, retry.scope["targets"])

    def _fail(self, job: Job, reason: str | None = None) -> None:
        """Fail a job whose runner cannot commit."""
        message = reason or last_runner_error(self._storage, job.lease.run_id) or "the runner died without a message"
        with self._database.write() as session:
            run = leased_run(session, job.lease)
            if run is not None:
                if job.retry_id is not None:
                    retry = session.get(RetryRecord, job.retry_id)
                    assert retry is not None
                    end_retry(retry, {}, message)
                else:
                    mark_failed(session, run, message)
                release(run)
        self._jobs.pop(job.lease.run_id, None)
        self._metrics.ended.labels("failed").inc()
        _log.error("run failed: %s", message, extra={"run_id": job.lease.run_id})


def _delay_s(failures: int) -> float:
    """Return the delay in seconds after a number of consecutive failures."""
    return min(30.0, 0.5 * 2 ** min(failures - 1, 10)) if failures else 0.0
