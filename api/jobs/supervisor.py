"""The supervisor: executes queued runs and retries, each in a runner process of its own, and takes over what others left.

A runner outlives the service that started it. A service that comes up finds the runs that were under way: it follows those
whose runners live, takes over what finished ones have committed, and starts dead ones again, a bounded number of times; they
go on from what is durable. The last start does no new work: it commits what is stored.
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
from promptreel.api.web.idempotency import purge_expired
from promptreel.api.web.middleware import Metrics
from promptreel.schemas.errors import ExpectedError, RunError
from promptreel.tables.attempts import is_running, kill_runner
from promptreel.tables.manifest import Manifest, newest_manifest
from promptreel.tables.progress import read_progress
from promptreel.tables.runner_command import runner_command
from promptreel.tables.runner_log import last_runner_error, open_runner_log
from promptreel.tables.stop_signal import request_stop
from promptreel.tables.storage import Storage

_log = logging.getLogger(__name__)

_PROGRESS_EVERY_S: Final = 1.0
# A runner keeps its run's deadline by itself; one that is this much over it hangs.
_OVER_DEADLINE_S: Final = 600.0
# With the pauses between them this is about two minutes.
_MAX_FAILURES_IN_A_ROW: Final = 10
_CLEAN_EVERY_S: Final = 600.0


class Supervisor(WorkerLoop):
    """Executes the runs of one database. Several may share it: leases decide."""

    def __init__(self, database: Database, storage: Storage, config: ApiConfig, metrics: Metrics) -> None:
        super().__init__("supervisor", config.heartbeat_s)
        self._database = database
        self._storage = storage
        self._config = config
        self._metrics = metrics
        self._jobs: dict[str, Job] = {}
        self._next_beat = self._next_cleaning = 0.0

    def release_leases(self) -> None:
        """Gives the leases back to the next supervisor; the runners go on."""
        with self._database.write() as session:
            for job in self._jobs.values():
                if (run := leased_run(session, job.lease)) is not None:
                    release(run)

    def step(self) -> bool:
        """Beats, moves each job on, and takes what waits or was left by others."""
        self._beat()
        for job in list(self._jobs.values()):
            self._attend_apart(job)
        self._take_over()
        self._start_waiting()
        self._purge_old_answers()
        self._metrics.running.set(len(self._jobs))
        return False

    def _purge_old_answers(self) -> None:
        if time.monotonic() >= self._next_cleaning:
            self._next_cleaning = time.monotonic() + _CLEAN_EVERY_S
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
        """Leaves a job to its new owner, who follows or resumes the runner."""
        self._jobs.pop(job.lease.run_id, None)

    def _take_over(self) -> None:
        """Takes the runs whose owners are dead."""
        with self._database.read() as session:
            rows = runs_under_way(session)
        for row in rows:
            if row.run_id in self._jobs:
                continue
            if row.lease_owner is None or self._watch.is_dead(
                row.run_id, row.lease_owner, row.lease_fence, row.lease_beat
            ):
                self._watch.forget(row.run_id)
                with self._database.write() as session:
                    lease = take_lease(session, row, self._owner)
                    retry = open_retry_of(session, row.run_id)
                if lease is not None:
                    job = Job(lease, retry.retry_id if retry is not None else None, None)
                    self._jobs[row.run_id] = job
                    _log.info("run taken over", extra={"run_id": row.run_id})

    # ------------------------------------------------------------------------------------------- beginning

    def _start_waiting(self) -> None:
        """Begins what waits, oldest first, while there is room."""
        while len(self._jobs) < self._config.max_running and self._start_one():
            pass

    def _start_one(self) -> bool:
        """Begins the oldest run or retry that waits; False where there is none. What another transaction writes at the same
        moment (a cancellation, another supervisor) is left to it."""
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
        job = Job(lease, retry_id, None, start_again_at=time.monotonic())
        self._jobs[lease.run_id] = job
        self._attend_apart(job)
        return True

    def _start_runner(self, job: Job) -> None:
        """Starts the runner of a job, or ends the job where its starts are used up or its folder can never be made.

        Raises:
            RunError: the folder cannot be made now.
        """
        try:
            with self._database.read() as session:
                prepare_run_folder(session, self._storage, job.lease.run_id, job.retry_id)
        except RunError:
            raise
        except ExpectedError as error:
            self._end_dead(job, str(error))
            return
        with self._database.write() as session:
            run = leased_run(session, job.lease)
            if run is None:
                self._drop(job)
                return
            starts = count_start(session, run, job.retry_id)
        if starts > self._last_start:
            self._end_dead(job)
            return
        if starts > 1:
            self._metrics.restarts.inc()
        is_last = starts == self._last_start
        command = runner_command(
            self._storage,
            job.lease.run_id,
            retry_id=job.retry_id,
            commit_only=self._why_only_commit(job, starts - 1) if is_last else None,
        )
        with open_runner_log(self._storage, job.lease.run_id) as log:
            # A session of its own: what ends this service does not end the runner.
            job.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        job.begun = time.monotonic()
        job.start_again_at = None
        _log.info("runner started", extra={"run_id": job.lease.run_id, "retry_id": job.retry_id})

    @property
    def _last_start(self) -> int:
        """Number of the start that only commits: it follows the first one and the allowed resumes."""
        return self._config.max_resumes + 2

    def _why_only_commit(self, job: Job, deaths: int) -> str:
        """The message of what a run leaves undone after its runner died so many times."""
        cause = last_runner_error(self._storage, job.lease.run_id)
        return f"the runner died {deaths} times before this was done" + (f"; last error: {cause}" if cause else "")

    # ------------------------------------------------------------------------------------------- following

    def _attend_apart(self, job: Job) -> None:
        """Attends to a job. What goes wrong with one is no matter of the others: it is left alone for a while, and ended
        where that does not help."""
        try:
            if time.monotonic() >= job.look_again_at:
                self._attend(job)
                job.failures_in_a_row = 0
        except Exception as error:
            _log.exception("a run could not be attended to", extra={"run_id": job.lease.run_id})
            # The database is everyone's, and the next look asks it again.
            if not isinstance(error, OperationalError | InterfaceError | NoConnection):
                self._leave_alone(job, error)

    def _leave_alone(self, job: Job, error: Exception) -> None:
        job.failures_in_a_row += 1
        job.look_again_at = time.monotonic() + _pause_s(job.failures_in_a_row)
        if job.failures_in_a_row < _MAX_FAILURES_IN_A_ROW:
            return
        is_plain = isinstance(error, ExpectedError | OSError)
        cause = str(error) if is_plain else f"{type(error).__name__}; the service's log says more"
        try:
            if not self._is_alive(job):
                self._end_dead(
                    job, f"the service cannot go on with the run after {job.failures_in_a_row} tries: {cause}"
                )
        except Exception:
            _log.exception("a run could not be ended", extra={"run_id": job.lease.run_id})

    def _attend(self, job: Job) -> None:
        match next_step(self._facts_of(job)):
            case Start():
                self._start_runner(job)
            case Follow():
                self._follow(job)
            case Finish(manifest):
                self._finish(job, manifest)
            case Resume(starts):
                _log.warning("runner died; it is started again", extra={"run_id": job.lease.run_id})
                job.process = None
                job.start_again_at = time.monotonic() + _pause_s(starts)
            case GiveUp():
                self._end_dead(job)
            case Wait():
                pass

    def _facts_of(self, job: Job) -> Facts:
        """What is known of a job. Its manifest and starts are read only when its runner is dead."""
        now_s = time.monotonic()
        if job.start_again_at is not None:
            return Facts(now_s, job.start_again_at)
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
        """Whether a runner works on the run: the one started here, or one that an earlier service has started."""
        if job.process is not None and job.process.poll() is None:
            return True
        return is_running(self._storage, job.lease.run_id)

    def _follow(self, job: Job) -> None:
        """Passes on the wish to stop, and takes over the progress."""
        if time.monotonic() < job.next_progress:
            return
        job.next_progress = time.monotonic() + _PROGRESS_EVERY_S
        progress = read_progress(self._storage, job.lease.run_id)
        limit_s = self._config.run_deadline_s
        if limit_s is not None and time.monotonic() - job.begun > limit_s + _OVER_DEADLINE_S:
            if job.process is not None:
                job.process.kill()
            else:
                kill_runner(self._storage, job.lease.run_id)
        with self._database.read() as session:
            run = session.get(RunRecord, job.lease.run_id)
        if run is None:
            return
        stop = run.stop_requested_at is not None and run.stop_observed_at is None and job.retry_id is None
        shown = live_summary(run.summary, progress) if job.retry_id is None else run.summary
        if not stop and shown == run.summary:
            return
        if stop:
            request_stop(self._storage, run.run_id, run.stop_requested_by or "api")
        with self._database.write() as session:
            held = leased_run(session, job.lease)
            if held is None:
                return
            held.summary = shown
            if stop:
                held.stop_observed_at = now()
            record_event(
                session,
                held.account_id,
                "prompt_run.progress",
                run_id=held.run_id,
                index_id=held.index_id,
                payload={key: shown[key] for key in ("total_segments", "completed_segments", "model_calls")},
            )

    # ------------------------------------------------------------------------------------------- ending

    def _finish(self, job: Job, manifest: Manifest) -> None:
        """Takes over what a runner has committed."""
        values = asdict(manifest)
        words = media_statuses(self._storage, job.lease.run_id)
        outcome = self._outcome_of_retry(job)
        with self._database.write() as session:
            run = leased_run(session, job.lease)
            if run is None:
                self._drop(job)
                return
            finish_run(session, run, values)
            if job.retry_id is not None:
                retry = session.get(RetryRecord, job.retry_id)
                assert retry is not None
                end_retry(retry, *outcome)
            mark_media(session, run, words, "not_processed")
            release(run)
            status = run.status
        self._jobs.pop(job.lease.run_id, None)
        self._metrics.ended.labels(status).inc()
        _log.info("run ended: %s", status, extra={"run_id": job.lease.run_id, "retry_id": job.retry_id})

    def _outcome_of_retry(self, job: Job) -> tuple[dict[str, bool | None], str | None]:
        """What a retry has come to, see `outcome_of`; of a run's own job nothing."""
        if job.retry_id is None:
            return {}, None
        with self._database.read() as session:
            retry = session.get(RetryRecord, job.retry_id)
            assert retry is not None
        return outcome_of(self._storage, job.lease.run_id, retry.scope["targets"])

    def _end_dead(self, job: Job, reason: str | None = None) -> None:
        """Ends a job whose runner cannot be brought to commit."""
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
        _log.error("run given up: %s", message, extra={"run_id": job.lease.run_id})


def _pause_s(times: int) -> float:
    """Seconds to wait after something went wrong so many times in a row."""
    return min(30.0, 0.5 * 2 ** min(times - 1, 10)) if times else 0.0
