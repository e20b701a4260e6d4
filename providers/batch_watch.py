"""Takes one group of calls through its batch job: submit, or find again, poll, cancel, and read the answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, TypeVar

from promptreel.providers.base import ModelAnswer
from promptreel.providers.batch_jobs import BatchJobs, JobState
from promptreel.providers.call_policy import Halted
from promptreel.schemas.batch_group import BatchGroup
from promptreel.schemas.errors import ModelError, StorageError
from promptreel.schemas.failure_codes import FAILURE_CODES

Value = TypeVar("Value")

FIRST_POLL_S: Final = 1.0
POLL_FACTOR: Final = 1.5
MAX_POLL_S: Final = 30.0
FIRST_RETRY_S: Final = 1.0
MAX_RETRY_S: Final = 60.0
# How long the service is called again after failures, at least, until the run halts.
MIN_PATIENCE_S: Final = 60.0
# A job is in the list of jobs this long after the call that created it was sent, at the latest.
LISTED_AFTER_S: Final = 10.0
# How long a stopped run waits for the answers of a cancelled job.
CANCEL_TIMEOUT_S: Final = 60.0
CHECK_INTERVAL_S: Final = 0.5

# The code and message of calls that a job did not answer.
_UNANSWERED: Final[Mapping[JobState, tuple[str, str]]] = {
    "ended": ("model_unavailable", "the batch job ended without an answer to this call"),
    "failed": ("model_unavailable", "the batch job failed"),
    "expired": ("model_timeout", "the batch job expired before it answered this call"),
    "lost": ("model_unavailable", "the service no longer has the batch job"),
}


class GroupStore(Protocol):
    """Stores groups durably; see `promptreel.tables.batch_groups.BatchGroups`. Every method raises StorageError."""

    def plan(self, group_id: str, keys: Sequence[str], now: float) -> BatchGroup: ...

    def store(self, group: BatchGroup) -> None: ...

    def add_recorded(self, group: BatchGroup, key: str) -> None: ...

    def open_groups(self) -> list[BatchGroup]: ...


class BatchDeadlinePassed(Exception):
    """The job was cancelled at its deadline before it answered this call."""


@dataclass(frozen=True, slots=True)
class GroupAnswers:
    """What became of a group.

    Attributes:
        answers: by key.
        unanswered: what to raise for a call without an answer; None if the group was never sent.
    """

    answers: Mapping[str, ModelAnswer | ModelError]
    unanswered: Exception | None


class BatchWatch:
    """Takes groups through their jobs.

    Args:
        check_halted: raises Halted if the run makes no further calls.
        halt: halts all calls of the run.
        patience_s: how long the service is called again after failures; at least MIN_PATIENCE_S.
        deadline_s: seconds after which a job is cancelled; None waits for it.
    """

    def __init__(
        self,
        jobs: BatchJobs,
        store: GroupStore,
        *,
        check_halted: Callable[[], None],
        halt: Callable[[ModelError], None],
        patience_s: float,
        deadline_s: float | None,
    ) -> None:
        self._jobs = jobs
        self._store = store
        self._check_halted = check_halted
        self._halt = halt
        self._patience_s = max(patience_s, MIN_PATIENCE_S)
        self._deadline_s = deadline_s

    async def send(self, group: BatchGroup, requests: Path) -> GroupAnswers:
        """Submit a new group and return its answers.

        Raises:
            ModelError: the service rejected the job, or the group could not be stored.
            Halted: the run makes no further calls; a later attempt reads the answers.
        """
        await self._store_group(group)
        return await self._read(await self._submit(group, requests))

    async def resume(self, group: BatchGroup) -> GroupAnswers:
        """Return the answers of a group that an earlier attempt created.

        Raises:
            ModelError, Halted: as `send`.
        """
        if group.job is None:
            job = await self._find(group)
            if job is None:
                await self._store_group(replace(group, state="dropped"))
                return GroupAnswers({}, None)
            group = await self._store_job(group, job)
        found = await self._read(group)
        # An earlier attempt has counted the failure of the job: its calls are sent again.
        return found if isinstance(found.unanswered, Halted) else replace(found, unanswered=None)

    async def cancel(self, group: BatchGroup) -> None:
        """Cancel the job of a group that nobody waits for, as far as possible."""
        try:
            job = group.job or await self._jobs.find(group.display_name)
            if job is not None:
                await self._jobs.cancel(job)
        except ModelError:
            return

    async def _submit(self, group: BatchGroup, requests: Path) -> BatchGroup:
        is_first = True

        async def create() -> str:
            nonlocal is_first
            # The job may exist although the call that created it failed.
            found = None if is_first else await self._jobs.find(group.display_name)
            is_first = False
            return found or await self._jobs.submit(group.display_name, requests)

        try:
            job = await self._patiently(create)
        except ModelError:
            await self._store_group(replace(group, state="dropped"))
            raise
        return await self._store_job(group, job)

    async def _find(self, group: BatchGroup) -> str | None:
        until = time.monotonic() + LISTED_AFTER_S
        while True:
            job = await self._patiently(lambda: self._jobs.find(group.display_name))
            if job is not None or time.monotonic() >= until:
                return job
            await self._pause(FIRST_POLL_S, self._check_halted)

    async def _read(self, group: BatchGroup) -> GroupAnswers:
        assert group.job is not None
        job = group.job
        unanswered = await self._wait_for(job, group.planned_at)
        answers = await self._patiently(lambda: self._jobs.results(job))
        return GroupAnswers(answers, unanswered)

    async def _wait_for(self, job: str, planned_at: float) -> Exception:
        """Wait until a job ends, cancelling it on a stop or at its deadline; return what to raise for calls without an
        answer."""
        reason: Halted | BatchDeadlinePassed | None = None
        interval, cancelled_at = FIRST_POLL_S, 0.0
        while (state := await self._patiently(lambda: self._jobs.state(job))) == "active":
            if isinstance(reason, Halted) and time.monotonic() - cancelled_at > CANCEL_TIMEOUT_S:
                raise reason
            if reason is None and (reason := self._reason_to_cancel(planned_at)) is not None:
                await self._patiently(lambda: self._jobs.cancel(job))
                interval, cancelled_at = FIRST_POLL_S, time.monotonic()
            await self._pause(interval, self._reason_to_cancel if reason is None else _never, planned_at)
            interval = min(interval * POLL_FACTOR, MAX_POLL_S)
        code, message = _UNANSWERED[state]
        return reason or ModelError(code, message, retryable=True)

    def _reason_to_cancel(self, planned_at: float) -> Halted | BatchDeadlinePassed | None:
        """Return why a job is cancelled. At the token limit it is not: its calls count as calls in flight.

        Raises:
            Halted: the run makes no further calls for another reason; the job continues for a later attempt.
        """
        try:
            self._check_halted()
        except Halted as halt:
            if halt.code == "cancelled":
                return halt
            if halt.code != "budget_exhausted":
                raise
        is_late = self._deadline_s is not None and time.time() >= planned_at + self._deadline_s
        return BatchDeadlinePassed() if is_late else None

    async def _patiently(self, call: Callable[[], Awaitable[Value]]) -> Value:
        """Make a call until it succeeds. After a while of failures, or one that every call would get, halt the run.

        Raises:
            ModelError: the service rejected the call for good.
            Halted: the run is halted, or was stopped after a failure.
        """
        started, wait = time.monotonic(), FIRST_RETRY_S
        while True:
            try:
                return await call()
            except ModelError as error:
                if not error.retryable:
                    raise
                is_over = time.monotonic() - started >= self._patience_s
                if is_over or FAILURE_CODES[error.code].halts_run:
                    self._halt(error)
                    raise Halted(error.code, f"batch job: {error.message}") from error
                pause = max(error.retry_after_s or 0.0, wait)
            await self._pause(min(pause, MAX_RETRY_S), self._check_halted)
            wait = min(2 * wait, MAX_RETRY_S)

    async def _pause(self, seconds: float, check: Callable[..., object], *arguments: float) -> None:
        """Sleep until the time is over, the check returns a value, or it raises."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and check(*arguments) is None:
            await asyncio.sleep(min(left, CHECK_INTERVAL_S))

    async def _store_group(self, group: BatchGroup) -> None:
        try:
            await asyncio.to_thread(self._store.store, group)
        except StorageError as error:
            raise ModelError("storage_failed", str(error), retryable=True) from error

    async def _store_job(self, group: BatchGroup, job: str) -> BatchGroup:
        """Store the name of a group's job. Without it, a later attempt finds the job by its display name."""
        submitted = replace(group, job=job, state="submitted")
        with contextlib.suppress(ModelError):
            await self._store_group(submitted)
        return submitted


def _never(planned_at: float) -> None:
    return None
