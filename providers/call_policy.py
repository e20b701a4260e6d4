"""The call policy shared by all providers: rate limit, deadline, retries, call records, and when to stop the calls."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from promptreel.providers.attempts import MAX_RETRY_AFTER_S, OperationAttempts
from promptreel.providers.base import ModelAnswer, ModelRequest, Provider, Usage
from promptreel.providers.call_requests import describe_request
from promptreel.providers.rate_limit import CHECK_INTERVAL_S, AdaptiveRateLimit
from promptreel.providers.service_health import CallTicket, ServiceHealth
from promptreel.schemas.errors import ModelError, PicklableError, StorageError
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.ids import call_id_of
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.settings import CallSettings
from promptreel.schemas.table_rows import LlmCallRow


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
    ) -> None:
        self._provider = provider
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
        self._reopenings = self._health.reopenings

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
        return [(call.llm_call_id, _answer_of(call)) for call in calls]

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
                if error.code == "rate_limited":
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
                if self._reopenings != self._health.reopenings:
                    self._reopenings = self._health.reopenings
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
        started_call = _started_call(self._provider, request, subject, tally.attempts)
        tally.call_ids += (started_call.llm_call_id,)
        with self._storage_errors_as_failures():
            self._sink.begin(started_call)
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                answer = await self._provider.call(request, prepared)
        except TimeoutError as error:
            timeout = ModelError(
                "model_timeout",
                f"no answer within {self._settings.deadline_s:g} s, the deadline of one call",
                retryable=True,
            )
            self._end(started_call, started, error=timeout)
            raise timeout from error
        except ModelError as error:
            self._end(started_call, started, error=error)
            raise
        verdict = unchecked(answer)
        try:
            verdict = check(answer)
        finally:  # the record of a paid answer is written even if the check has a defect
            self._end(started_call, started, answer=answer, verdict=verdict)
        return answer

    def _end(
        self,
        started_call: LlmCallRow,
        started: float,
        *,
        answer: ModelAnswer | None = None,
        verdict: Verdict = Verdict(),
        error: ModelError | None = None,
    ) -> None:
        failure = (error.code, error.message) if error is not None else verdict.failure
        usage = answer.usage if answer is not None else Usage()
        ended = replace(
            started_call,
            status="success" if failure is None else "error",
            code=failure[0] if failure else None,
            message=failure[1] if failure else None,
            finish_reason=answer.finish_reason if answer is not None else None,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            thought_tokens=usage.thought_tokens,
            cached_tokens=usage.cached_tokens,
            total_tokens=usage.total_tokens,
            text_tokens=usage.text_tokens,
            image_tokens=usage.image_tokens,
            video_tokens=usage.video_tokens,
            audio_tokens=usage.audio_tokens,
            completed_at=_now(),
            duration_ms=round((time.monotonic() - started) * 1000),
            response_text=answer.text if answer is not None else None,
            model_version=answer.model_version if answer is not None else None,
            answer_repair=verdict.repair,
        )
        self._spent_tokens += usage.total_tokens
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


def _answer_of(call: LlmCallRow) -> ModelAnswer:
    """Return a recorded answer as the provider returned it."""
    usage = Usage(
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        thought_tokens=call.thought_tokens,
        cached_tokens=call.cached_tokens,
        total_tokens=call.total_tokens,
        text_tokens=call.text_tokens,
        image_tokens=call.image_tokens,
        video_tokens=call.video_tokens,
        audio_tokens=call.audio_tokens,
        media_reported=bool(call.text_tokens + call.image_tokens + call.video_tokens + call.audio_tokens),
    )
    failure = None if call.code is None else (call.code, call.message or "")
    if failure is not None and FAILURE_CODES[failure[0]].found_by_check:
        failure = None  # the caller checks the answer again, as one that an earlier version recorded without a check
    return ModelAnswer(
        call.response_text or "",
        call.finish_reason,
        usage,
        failure,
        model_version=call.model_version,
        max_output_tokens=call.max_output_tokens,
    )


def _started_call(provider: Provider, request: ModelRequest, subject: CallSubject, attempt: int) -> LlmCallRow:
    invoked_at = _now()
    media = request.media
    return LlmCallRow(
        llm_call_id=call_id_of(subject.operation_key, subject.run_id, invoked_at, attempt),
        run_id=subject.run_id,
        video_id=subject.video_id,
        segment_id=subject.segment_id,
        operation_key=subject.operation_key,
        model=provider.name,
        purpose=request.purpose,
        status="interrupted",
        attempt=attempt,
        code=None,
        message=None,
        finish_reason=None,
        input_tokens=0,
        output_tokens=0,
        thought_tokens=0,
        cached_tokens=0,
        total_tokens=0,
        text_tokens=0,
        image_tokens=0,
        video_tokens=0,
        audio_tokens=0,
        video_seconds=seconds_from_us(media.span.duration_us) if media is not None else 0.0,
        invoked_at=invoked_at,
        completed_at=None,
        duration_ms=0,
        request=describe_request(request),
        response_text=None,
        max_output_tokens=provider.output_budget(request),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
