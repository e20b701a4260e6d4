"""The supervisor: executes queued runs and retries, each in a runner process of its own, and takes over what others left.

A runner outlives the service that started it. A service that comes up finds the runs that were under way: it follows those
whose runners live, takes over what finished ones have committed, and starts dead ones again, a bounded number of times; they
go on from what is durable. The last start does no new work: it commits what is stored.
"""

from __future__ import annotations

import json
import logging
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from sqlalchemy import or_, select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session

from promptreel.api.config import ApiConfig
from promptreel.api.db.clock import now, required_time
from promptreel.api.db.engine import Database
from promptreel.api.db.events import record_event
from promptreel.api.db.models import RetryRecord, RunItem, RunRecord, Video
from promptreel.api.jobs.leases import (
    SILENT_BEATS,
    Lease,
    Watch,
    beat,
    held_run,
    new_owner,
    release,
    take_lease,
)
from promptreel.api.runs.cancel import cancel_unstarted
from promptreel.api.runs.finish import finish_run
from promptreel.api.runs.results import run_tables
from promptreel.api.runs.retries import RETRY_FINAL, outcome_of
from promptreel.api.runs.statuses import MEDIA_TYPES, SEGMENT_OPERATIONS
from promptreel.api.web.idempotency import forget_old
from promptreel.api.web.middleware import Metrics
from promptreel.schemas.errors import ExpectedError, RunError
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.settings import settings_from_dict
from promptreel.tables.attempts import is_running, kill_runner, last_attempt
from promptreel.tables.layout import request_file
from promptreel.tables.manifest import Manifest, newest_manifest
from promptreel.tables.progress import read_progress
from promptreel.tables.request import RunRequest, TargetItem, write_request
from promptreel.tables.retry_scope import RetryScope, write_retry
from promptreel.tables.runner_command import runner_command
from promptreel.tables.runner_log import last_runner_error, open_runner_log
from promptreel.tables.stop_signal import clear_stop, request_stop
from promptreel.tables.storage import Storage

_log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 0.25
_PROGRESS_EVERY_S: Final = 1.0
# A runner keeps its run's deadline by itself; one that is this much over it hangs.
_OVER_DEADLINE_S: Final = 600.0
# With the pauses between them this is about two minutes.
_MAX_FAILURES_IN_A_ROW: Final = 10
_CLEAN_EVERY_S: Final = 600.0
_TOKENS: Final = ("input", "output", "thought", "cached", "total")


@dataclass
class _Job:
    """A run, or a retry of it, that this supervisor executes.

    Attributes:
        process: the runner; None where it was started by an earlier service, which is then followed through its lock.
        begun: `time.monotonic` at which the runner was started or found.
        start_again_at: `time.monotonic` at which the runner is to be started; None where it has been.
        failures_in_a_row: how often in a row it could not be attended to; until `look_again_at` it is left alone.
    """

    lease: Lease
    retry_id: str | None
    process: subprocess.Popen[bytes] | None
    begun: float = field(default_factory=time.monotonic)
    start_again_at: float | None = None
    next_progress: float = 0.0
    failures_in_a_row: int = 0
    look_again_at: float = 0.0


class Supervisor:
    """Executes the runs of one database. Several may share it: leases decide."""

    def __init__(self, database: Database, storage: Storage, config: ApiConfig, metrics: Metrics) -> None:
        self._database = database
        self._storage = storage
        self._config = config
        self._metrics = metrics
        self._owner = new_owner()
        self._watch = Watch(SILENT_BEATS * config.heartbeat_s)
        self._jobs: dict[str, _Job] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="supervisor", daemon=True)
        self._next_beat = self._next_cleaning = 0.0

    def start(self) -> None:
        """Begins to work, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the work. Runners go on; their leases are given back for the next supervisor."""
        self._stopping.set()
        self._thread.join(timeout=30)

    def _work(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            try:
                self.step()
            except Exception:
                _log.exception("an iteration of the supervisor failed; it continues")
        try:
            with self._database.write() as session:
                for job in self._jobs.values():
                    if (run := held_run(session, job.lease)) is not None:
                        release(run)
        except Exception:
            _log.exception("leases could not be given back; they will run out")

    def step(self) -> None:
        """Looks at everything once."""
        self._beat()
        for job in list(self._jobs.values()):
            self._attend_apart(job)
        self._take_over()
        self._begin_waiting()
        self._keep_house()
        self._metrics.running.set(len(self._jobs))

    def _keep_house(self) -> None:
        if time.monotonic() >= self._next_cleaning:
            self._next_cleaning = time.monotonic() + _CLEAN_EVERY_S
            with self._database.write() as session:
                forget_old(session)

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

    def _drop(self, job: _Job) -> None:
        """Leaves a job to its new owner, who follows or resumes the runner."""
        self._jobs.pop(job.lease.run_id, None)

    def _take_over(self) -> None:
        """Takes the runs whose owners are dead."""
        with self._database.read() as session:
            open_retry = select(RetryRecord.run_id).where(RetryRecord.status == "processing")
            rows = session.execute(
                select(
                    RunRecord.run_id,
                    RunRecord.status,
                    RunRecord.lease_owner,
                    RunRecord.lease_fence,
                    RunRecord.lease_beat,
                ).where(or_(RunRecord.status == "processing", RunRecord.run_id.in_(open_retry)))
            ).all()
        for row in rows:
            if row.run_id in self._jobs:
                continue
            if row.lease_owner is None or self._watch.is_dead(
                row.run_id, row.lease_owner, row.lease_fence, row.lease_beat
            ):
                self._watch.forget(row.run_id)
                with self._database.write() as session:
                    lease = take_lease(session, row, self._owner)
                    retry = _open_retry(session, row.run_id)
                if lease is not None:
                    job = _Job(lease, retry.retry_id if retry is not None else None, None)
                    self._jobs[row.run_id] = job
                    _log.info("run taken over", extra={"run_id": row.run_id})

    # ------------------------------------------------------------------------------------------- beginning

    def _begin_waiting(self) -> None:
        """Begins what waits, oldest first, while there is room."""
        while len(self._jobs) < self._config.max_running and self._begin_one():
            pass

    def _begin_one(self) -> bool:
        """Begins the oldest run or retry that waits; False where there is none. What another transaction writes at the same
        moment (a cancellation, another supervisor) is left to it."""
        with self._database.write() as session:
            retry = session.scalars(
                select(RetryRecord)
                .join(RunRecord, RunRecord.run_id == RetryRecord.run_id)
                .where(RetryRecord.status == "pending", RunRecord.lease_owner.is_(None))
                .order_by(RetryRecord.created_at)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).first()
            waiting = select(RunRecord).where(RunRecord.status == "pending", RunRecord.lease_owner.is_(None))
            oldest = waiting.order_by(RunRecord.created_at).limit(1)
            run = session.scalars(oldest.with_for_update(skip_locked=True)).first()
            if retry is not None and (run is None or retry.created_at <= run.created_at):
                run = session.get(RunRecord, retry.run_id)
            else:
                retry = None
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
                _mark_started(session, run)
            else:
                retry.status, retry.started_at = "processing", now()
        retry_id = retry.retry_id if retry is not None else None
        job = _Job(lease, retry_id, None, start_again_at=time.monotonic())
        self._jobs[lease.run_id] = job
        self._attend_apart(job)
        return True

    def _start_runner(self, job: _Job) -> None:
        """Starts the runner of a job, or ends the job where its starts are used up or its folder can never be made.

        Raises:
            RunError: the folder cannot be made now.
        """
        try:
            self._make_folder(job)
        except RunError:
            raise
        except ExpectedError as error:
            self._end_dead(job, str(error))
            return
        with self._database.write() as session:
            run = held_run(session, job.lease)
            if run is None:
                self._drop(job)
                return
            starts = self._count_start(session, run, job)
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

    def _why_only_commit(self, job: _Job, deaths: int) -> str:
        """The message of what a run leaves undone after its runner died so many times."""
        cause = last_runner_error(self._storage, job.lease.run_id)
        return f"the runner died {deaths} times before this was done" + (f"; last error: {cause}" if cause else "")

    def _count_start(self, session: Session, run: RunRecord, job: _Job) -> int:
        if job.retry_id is None:
            run.starts += 1
            return run.starts
        retry = session.get(RetryRecord, job.retry_id)
        assert retry is not None
        retry.starts += 1
        return retry.starts

    def _make_folder(self, job: _Job) -> None:
        """Makes the run folder from the database where there is none, and the retry's file."""
        run_id = job.lease.run_id
        with self._database.read() as session:
            run = session.get(RunRecord, run_id)
            assert run is not None
            if not self._storage.exists(request_file(run_id)):
                _write_folder(session, self._storage, run)
            if job.retry_id is not None:
                retry = session.get(RetryRecord, job.retry_id)
                assert retry is not None
                clear_stop(self._storage, run_id)
                targets = frozenset((video_id, segment_id) for video_id, segment_id in retry.scope["targets"])
                until = last_attempt(self._storage, run_id) if retry.scope.get("repeat_failed") else 0
                write_retry(self._storage, run_id, job.retry_id, RetryScope(targets, until))

    # ------------------------------------------------------------------------------------------- following

    def _attend_apart(self, job: _Job) -> None:
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

    def _leave_alone(self, job: _Job, error: Exception) -> None:
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

    def _attend(self, job: _Job) -> None:
        if job.start_again_at is not None:
            if time.monotonic() >= job.start_again_at:
                self._start_runner(job)
            return
        if self._is_alive(job):
            self._follow(job)
            return
        manifest = newest_manifest(self._storage, job.lease.run_id)
        if manifest is not None and self._is_new(job, manifest):
            self._finish(job, manifest)
            return
        self._resume_later(job)

    def _is_alive(self, job: _Job) -> bool:
        """Whether a runner works on the run: the one started here, or one that an earlier service has started."""
        if job.process is not None and job.process.poll() is None:
            return True
        return is_running(self._storage, job.lease.run_id)

    def _is_new(self, job: _Job, manifest: Manifest) -> bool:
        """Whether a manifest was committed for this job, and not before it."""
        with self._database.read() as session:
            run = session.get(RunRecord, job.lease.run_id)
            return run is not None and manifest.number > (run.manifest_number or 0)

    def _resume_later(self, job: _Job) -> None:
        with self._database.read() as session:
            run = session.get(RunRecord, job.lease.run_id)
            retry = session.get(RetryRecord, job.retry_id) if job.retry_id is not None else None
        starts = retry.starts if retry is not None else run.starts if run is not None else 0
        if starts >= self._last_start:
            self._end_dead(job)
            return
        _log.warning("runner died; it is started again", extra={"run_id": job.lease.run_id})
        job.process = None
        job.start_again_at = time.monotonic() + _pause_s(starts)

    def _follow(self, job: _Job) -> None:
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
        shown = _live_summary(run.summary, progress) if job.retry_id is None else run.summary
        if not stop and shown == run.summary:
            return
        if stop:
            request_stop(self._storage, run.run_id, run.stop_requested_by or "api")
        with self._database.write() as session:
            held = held_run(session, job.lease)
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

    def _finish(self, job: _Job, manifest: Manifest) -> None:
        """Takes over what a runner has committed."""
        values = asdict(manifest)
        words = _media_words(self._storage, job.lease.run_id)
        outcome = self._outcome_of_retry(job)
        with self._database.write() as session:
            run = held_run(session, job.lease)
            if run is None:
                self._drop(job)
                return
            finish_run(session, run, values)
            if job.retry_id is not None:
                retry = session.get(RetryRecord, job.retry_id)
                assert retry is not None
                _end_retry(retry, *outcome)
            _mark_media(session, run, words, "not_processed")
            release(run)
            status = run.status
        self._jobs.pop(job.lease.run_id, None)
        self._metrics.ended.labels(status).inc()
        _log.info("run ended: %s", status, extra={"run_id": job.lease.run_id, "retry_id": job.retry_id})

    def _outcome_of_retry(self, job: _Job) -> tuple[dict[str, bool | None], str | None]:
        """What a retry has come to, see `outcome_of`; of a run's own job nothing."""
        if job.retry_id is None:
            return {}, None
        with self._database.read() as session:
            retry = session.get(RetryRecord, job.retry_id)
            assert retry is not None
        return outcome_of(self._storage, job.lease.run_id, retry.scope["targets"])

    def _end_dead(self, job: _Job, reason: str | None = None) -> None:
        """Ends a job whose runner cannot be brought to commit."""
        message = reason or last_runner_error(self._storage, job.lease.run_id) or "the runner died without a message"
        with self._database.write() as session:
            run = held_run(session, job.lease)
            if run is not None:
                if job.retry_id is not None:
                    retry = session.get(RetryRecord, job.retry_id)
                    assert retry is not None
                    _end_retry(retry, {}, message)
                else:
                    _mark_failed(session, run, message)
                release(run)
        self._jobs.pop(job.lease.run_id, None)
        self._metrics.ended.labels("failed").inc()
        _log.error("run given up: %s", message, extra={"run_id": job.lease.run_id})


def _pause_s(times: int) -> float:
    """Seconds to wait after something went wrong so many times in a row."""
    return min(30.0, 0.5 * 2 ** min(times - 1, 10)) if times else 0.0


def _open_retry(session: Session, run_id: str) -> RetryRecord | None:
    return session.scalars(
        select(RetryRecord).where(RetryRecord.run_id == run_id, RetryRecord.status == "processing").limit(1)
    ).first()


def _mark_started(session: Session, run: RunRecord) -> None:
    run.status = "processing"
    run.started_at = run.started_at or now()
    record_event(session, run.account_id, "prompt_run.started", run_id=run.run_id, index_id=run.index_id)
    _mark_media(session, run, {}, "processing")


def _mark_failed(session: Session, run: RunRecord, message: str) -> None:
    moment = now()
    run.status = "failed"
    run.error_message = message
    run.completed_at = moment
    totals = {f"failed_{plural}": run.summary.get(f"total_{plural}", 0) for _, plural in MEDIA_TYPES}
    run.summary = {**run.summary, **totals}
    record_event(
        session,
        run.account_id,
        "prompt_run.failed",
        run_id=run.run_id,
        index_id=run.index_id,
        payload={"error_message": message},
    )
    _mark_media(session, run, {}, "failed")


def _media_words(storage: Storage, run_id: str) -> dict[str, str]:
    """The status of each media item by what a run has committed of it."""
    words = {"completed": "processed", "partial": "processed", "failed": "failed", "cancelled": "not_processed"}
    tables = run_tables(storage, run_id)
    rows = tables.all_rows("media") if tables is not None else []
    return {row["video_id"]: words[row["status"]] for row in rows}


def _mark_media(session: Session, run: RunRecord, words: Mapping[str, str], otherwise: str) -> None:
    """Brings the status of a run's media up to date. What a run has succeeded on stays processed, whatever others come to.

    Called after an event of the run was recorded: so two runs that end at once do this one after the other.

    Args:
        words: the status by the item's id; `otherwise` is that of the others.
    """
    chosen = select(Video).join(RunItem, RunItem.video_id == Video.video_id).where(RunItem.run_id == run.run_id)
    for video in session.scalars(chosen.where(Video.status != "processed")):
        video.status = words.get(video.video_id, otherwise)
        video.updated_at = now()


def _end_retry(retry: RetryRecord, outcome: dict[str, bool | None], error: str | None) -> None:
    retry.status = "failed" if error is not None else "completed"
    retry.outcome = dict(outcome)
    retry.error = error
    retry.completed_at = now()
    assert retry.status in RETRY_FINAL


def _write_folder(session: Session, storage: Storage, run: RunRecord) -> None:
    videos = session.scalars(
        select(Video)
        .join(RunItem, RunItem.video_id == Video.video_id)
        .where(RunItem.run_id == run.run_id)
        .order_by(RunItem.position)
    )
    items = [TargetItem(video.media_uri, video.title, video.video_id) for video in videos]
    request = RunRequest(
        run_id=run.run_id,
        prompt=prompt_from_dict(run.prompt),
        settings=settings_from_dict(run.settings),
        target=(json.dumps(run.target),),
        created_at=required_time(run.created_at),
        owner=run.account_id,
    )
    write_request(storage, request, items)


def _live_summary(summary: dict[str, Any], progress: Any) -> dict[str, Any]:
    """A run's counters while it is under way."""
    return {
        **summary,
        "total_segments": max(summary.get("total_segments", 0), progress.get("segments_planned", 0)),
        "completed_segments": progress.get("field_extraction.succeeded", 0),
        **{f"{operation}_failures": progress.get(f"{operation}.failed", 0) for operation in SEGMENT_OPERATIONS},
        "reused_results": progress.get("operations_reused", 0),
        "model_calls": progress.get("calls", 0),
        "actual_tokens": {kind: progress.get(f"{kind}_tokens", 0) for kind in _TOKENS},
    }
