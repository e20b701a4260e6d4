"""The call policy shared by all providers: rate limit, deadline, retries, call records, and when to stop the calls."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from promptreel.providers.attempts import MAX_RETRY_AFTER_S, OperationAttempts
from promptreel.providers.base import ModelAnswer, ModelRequest, Provider
from promptreel.providers.call_records import answer_of, ended_call, started_call
from promptreel.providers.rate_limit import CHECK_INTERVAL_S, AdaptiveRateLimit
from promptreel.providers.service_health import CallTicket, ServiceHealth
from promptreel.schemas.errors import ModelError, PicklableError, StorageError
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.settings import CallSettings
from promptreel.schemas.table_rows import LlmCallRow
from promptreel.schemas.tiers import Tier

# The service may let a flex call wait for minutes.
FLEX_DEADLINE_FACTOR: Final = 5


class CallSink(Protocol):
    """Stores call records."""

    def begin(self, call: LlmCallRow) -> None: ...

    def end(self, call: LlmCallRow) -> None: ...

    async def answers(self, video_id: str, segment_id: str | None, operation_key: str) -> Sequence[LlmCallRow]:
        """Return earlier attempts' calls whose answer, good or failed, is not in the operation cache, newest first."""


@dataclass(frozen=True, slots=True)
class CallSubject:
    """The operation that a call belongs to.

    Attributes:
        earlier_key: the operation's key in records of an earlier version.
    """

    run_id: str
    video_id: str
    segment_id: str | None
    operation_key: str
    earlier_key: str | None = None


class Halted(PicklableError):
    """No call was made because the calls of this run have been halted.

    Attributes:
        code: "cancelled", "budget_exhausted", "deadline_exceeded", or the failure that halted the calls.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(slots=True)
class CallTally:
    """The number of attempts at one operation so far, and the ids of their call records."""

    attempts: int = 0
    call_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check of an answer found.

    Attributes:
        failure: (code, message) if the answer cannot be used.
        repair: the repairs that its JSON needed, see `promptreel.providers.answer_json.REPAIRS`.
    """

    failure: tuple[str, str] | None = None
    repair: str | None = None


def unchecked(answer: ModelAnswer) -> Verdict:
    """Accept every answer that the service completed."""
    return Verdict(answer.failure)


class CallPolicy:
    """The calls of one worker to one provider, in one event loop.

    Args:
        stopped: returns whether a stop of the run was requested; checked before every call.
        check_run: raises Halted if the run must not make further calls for a reason outside this policy; called before
            every call.
        on_call: receives the record of every call when it ends.
        deadline: `time.time()` after which no call is made.
        spent_tokens: tokens used by earlier attempts at the run.
        health: the health of the service, shared with other policies of the run; None creates one.
        tier: service tier of the calls.
    """

    def __init__(
        self,
        provider: Provider,
        settings: CallSettings,
        sink: CallSink,
        *,
        stopped: Callable[[], bool] = lambda: False,
        check_run: Callable[[], None] = lambda: None,
        on_call: Callable[[LlmCallRow], None] = lambda call: None,
        deadline: float | None = None,
        spent_tokens: int = 0,
        jitter: random.Random | None = None,
        health: ServiceHealth | None = None,
        tier: Tier = "standard",
    ) -> None:
        self._provider = provider
        self._tier = tier
        self._settings = settings
        self._sink = sink
        self._stopped = stopped
        self._check_run = check_run
        self._on_call = on_call
        self._deadline = deadline
        self._spent_tokens = spent_tokens
        self._jitter = jitter or random.Random()
        self._limit = AdaptiveRateLimit(settings.max_calls_per_second)
        self._in_flight = asyncio.Semaphore(settings.max_in_flight)
        self._queue = asyncio.Lock()
        clock = asyncio.get_running_loop().time
        self._health = health or ServiceHealth(settings.max_outage_s, clock=clock, jitter=self._jitter)
        self._outages = self._health.outages

    async def prepare(self, request: ModelRequest, subject: CallSubject | None = None) -> Any:
        """Let the provider build what is sent; a failed upload is retried like a call.

        Raises:
            ModelError: the last failure, when the attempts are used up.
            Halted: the calls of this run have been halted.
        """
        operation = subject.operation_key if subject is not None else ""
        attempts = self._attempts_at(operation)
        while True:
            self.check_halted()
            ticket = await self._admit(operation) if self._provider.uploads_media else None
            try:
                return await self._provider.prepare(request)
            except ModelError as error:
                if ticket is not None:
                    self._health.end(ticket, error)
                elif FAILURE_CODES[error.code].halts_run:
                    self._health.halt_calls(error)
                is_limited = error.code == "rate_limited"
                await self._sleep(attempts.pause_after(error, None if is_limited else ticket))
            finally:
                if ticket is not None and ticket.result is None:  # it may have been uploaded before
                    self._health.drop(ticket)

    async def earlier_answers(self, subject: CallSubject) -> list[tuple[str, ModelAnswer]]:
        """Return (call id, answer) of the answers that earlier attempts at the run received but did not cache, newest
        first: a good answer whose process died before storing it, or an answer that failed.

        A record holds an answer's text and tokens but no vectors, so embeddings are always requested again.
        """
        keys = [subject.operation_key, *([subject.earlier_key] if subject.earlier_key else [])]
        calls = [call for key in keys for call in await self._sink.answers(subject.video_id, subject.segment_id, key)]
        return [(call.llm_call_id, answer_of(call)) for call in calls]

    async def call(
        self,
        request: ModelRequest,
        prepared: Any,
        subject: CallSubject,
        tally: CallTally,
        check: Callable[[ModelAnswer], Verdict] = unchecked,
    ) -> ModelAnswer:
        """Call the model until it answers, within the attempts that the settings allow.

        Args:
            check: judges an answer before its call record ends, so that the record says whether it can be used.

        Raises:
            ModelError: the last failure, when the attempts are used up.
            Halted: the calls of this run have been halted.
        """
        attempts = self._attempts_at(subject.operation_key)
        while True:
            ticket = None
            try:
                async with self._in_flight, self._admitted(subject.operation_key) as ticket:
                    return await self._attempt(request, prepared, subject, tally, check)
            except ModelError as error:
                if error.code == "rate_limited" and not self._health.waits_for_quota:
                    wait = error.retry_after_s
                    self._limit.record_rejection(None if wait is None else min(wait, MAX_RETRY_AFTER_S))
                await self._sleep(attempts.pause_after(error, ticket))

    @asynccontextmanager
    async def _admitted(self, operation: str) -> AsyncIterator[CallTicket]:
        """Wait until a call may be sent, and report its outcome to the health of the service."""
        ticket = await self._admit(operation)
        try:
            yield ticket
        except ModelError as error:
            self._health.end(ticket, error)
            raise
        except BaseException:
            self._health.drop(ticket)
            raise
        self._health.end(ticket, None)

    async def _admit(self, operation: str) -> CallTicket:
        """Wait for the service, then for the rate limit, in order of arrival."""
        async with self._queue:
            while True:
                while (wait := self._health.wait_s()) > 0:
                    self.check_halted()
                    await asyncio.sleep(min(wait, CHECK_INTERVAL_S))
                if self._outages != self._health.outages:
                    self._outages = self._health.outages
                    self._limit.restart()
                await self._limit.acquire(self.check_halted)
                ticket = self._health.begin(operation)
                if ticket is not None:
                    return ticket

    def _attempts_at(self, operation: str) -> OperationAttempts:
        return OperationAttempts(operation, self._settings, self._health, self._jitter)

    async def _sleep(self, seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while (left := until - clock()) > 0:
            self.check_halted()
            await asyncio.sleep(min(left, CHECK_INTERVAL_S))

    def check_halted(self) -> None:
        """Raise Halted if no further call may be made."""
        if self._stopped():
            raise Halted("cancelled", "the run was stopped before this call")
        self._check_run()
        halt = self._health.halt
        if halt is not None:
            raise Halted(halt.code, f"not called because an earlier call failed: {halt.message}")
        limit = self._settings.max_total_tokens
        if limit is not None and self._spent_tokens >= limit:
            raise Halted(
                "budget_exhausted", f"the run reached its limit of {limit} tokens; raise it and resume the run"
            )
        if self._deadline is not None and time.time() >= self._deadline:
            raise Halted("deadline_exceeded", "the run's deadline has passed; resume the run to continue")

    async def _attempt(
        self,
        request: ModelRequest,
        prepared: Any,
        subject: CallSubject,
        tally: CallTally,
        check: Callable[[ModelAnswer], Verdict],
    ) -> ModelAnswer:
        tally.attempts += 1
        deadline_s = self._settings.deadline_s * (FLEX_DEADLINE_FACTOR if self._tier == "flex" else 1)
        call = started_call(self._provider, request, subject, tally.attempts, self._tier)
        tally.call_ids += (call.llm_call_id,)
        with self._storage_errors_as_failures():
            self._sink.begin(call)
        started = time.monotonic()
        try:
            async with asyncio.timeout(deadline_s):
                answer = await self._provider.call(replace(request, tier=self._tier), prepared)
        except TimeoutError as error:
            timeout = ModelError(
                "model_timeout",
                f"no answer within {deadline_s:g} s, the deadline of one call",
                retryable=True,
            )
            self._end(call, started, error=timeout)
            raise timeout from error
        except ModelError as error:
            self._end(call, started, error=error)
            raise
        verdict = unchecked(answer)
        try:
            verdict = check(answer)
        finally:  # the record of a paid answer is written even if the check has a defect
            self._end(call, started, answer=answer, verdict=verdict)
        return answer

    def _end(
        self,
        call: LlmCallRow,
        started: float,
        *,
        answer: ModelAnswer | None = None,
        verdict: Verdict = Verdict(),
        error: ModelError | None = None,
    ) -> None:
        failure = (error.code, error.message) if error is not None else verdict.failure
        duration_ms = round((time.monotonic() - started) * 1000)
        ended = ended_call(call, answer, failure, verdict.repair, duration_ms)
        self._spent_tokens += ended.total_tokens
        with self._storage_errors_as_failures():
            self._sink.end(ended)
        self._on_call(ended)

    @staticmethod
    @contextmanager
    def _storage_errors_as_failures() -> Iterator[None]:
        """Fail the call if its record cannot be written."""
        try:
            yield
        except StorageError as error:
            raise ModelError("storage_failed", str(error), retryable=True) from error
