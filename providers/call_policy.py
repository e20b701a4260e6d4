"""How every call is made, whatever the model: rate, deadline, retries, records, and when to stop calling altogether."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from promptreel.providers.base import ModelAnswer, ModelRequest, Provider, Usage
from promptreel.providers.rate_limit import CHECK_EVERY_S, AdaptiveRateLimit
from promptreel.schemas.errors import ModelError, PicklableError, StorageError
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.ids import call_id_of, digest
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.records import LlmCallRow
from promptreel.schemas.settings import CallSettings

FIRST_BACKOFF_S: Final = 0.5
MAX_BACKOFF_S: Final = 60.0
# A service that asks for a longer wait than this is not waited for: the operation fails as retryable.
MAX_RETRY_AFTER_S: Final = 120.0
# A refusal for speed is the limiter's business, so it does not use up the attempts meant for faults; it is bounded all
# the same.
RATE_LIMITED_ATTEMPTS_FACTOR: Final = 4


class CallSink(Protocol):
    """Where call records go."""

    def begin(self, call: LlmCallRow) -> None: ...

    def end(self, call: LlmCallRow) -> None: ...

    async def answers(self, video_id: str, segment_id: str | None, operation_key: str) -> Sequence[LlmCallRow]:
        """Calls of earlier attempts whose answer, good or failed, is not in the operation cache, newest first."""


@dataclass(frozen=True, slots=True)
class CallSubject:
    """What a call is made for."""

    run_id: str
    video_id: str
    segment_id: str | None
    operation_key: str


class Halted(PicklableError):
    """No call was made, because none is to be made any more.

    Attributes:
        code: "cancelled", "budget_exhausted", "deadline_exceeded", or the failure that halted the calls.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(slots=True)
class CallTally:
    """What one operation has cost so far: attempts made and the ids of their records."""

    attempts: int = 0
    call_ids: tuple[str, ...] = ()


class CallPolicy:
    """Makes the calls of one worker to one provider, in one event loop.

    Args:
        stopped: whether the run was asked to stop; checked before every call.
        check_run: raises Halted where the run calls no more for a reason outside this policy; called before every call.
        on_call: told of every call's record when it has ended.
        deadline: moment (of `time.time`) after which no call is made.
        spent_tokens: tokens that earlier attempts at the run have used up.
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
        self._halted: Halted | None = None

    async def prepare(self, request: ModelRequest) -> Any:
        """Lets the provider build what is sent. An upload that fails on the way is tried again as a call is.

        Raises:
            ModelError: it could not be built; the last failure is raised.
            Halted: no further call is made in this run.
        """
        faults = 0
        while True:
            self.check_halted()
            try:
                return await self._provider.prepare(request)
            except ModelError as error:
                faults += 1
                self._give_up_or_halt(error, faults, 0)
                await self._sleep(self._backoff(error, faults))

    async def earlier_answers(self, subject: CallSubject) -> list[tuple[str, ModelAnswer]]:
        """(call id, answer) of what earlier attempts at the run received for an operation that is not in the cache, newest
        first: a good answer whose process died before storing it, or an answer that failed.

        A record holds an answer's text and tokens, which is all that a service says; it holds no vectors, so that an
        embedding is asked for again.
        """
        calls = await self._sink.answers(subject.video_id, subject.segment_id, subject.operation_key)
        return [(call.llm_call_id, _answer_of(call)) for call in calls]

    async def call(self, request: ModelRequest, prepared: Any, subject: CallSubject, tally: CallTally) -> ModelAnswer:
        """Asks until there is an answer, within the attempts that the settings allow.

        Raises:
            ModelError: no answer came; the last failure is raised.
            Halted: no further call is made in this run.
        """
        faults = refusals = 0
        while True:
            try:
                async with self._in_flight:
                    await self._limit.acquire(self.check_halted)
                    return await self._attempt(request, prepared, subject, tally)
            except ModelError as error:
                if error.code == "rate_limited":
                    refusals += 1
                    wait = error.retry_after_s
                    self._limit.refused(None if wait is None else min(wait, MAX_RETRY_AFTER_S))
                else:
                    faults += 1
                self._give_up_or_halt(error, faults, refusals)
                # After a refusal for speed the limiter holds the call back.
                refused = error.code == "rate_limited"
                await self._sleep(self._jitter.uniform(0, 0.05) if refused else self._backoff(error, faults))

    def _give_up_or_halt(self, error: ModelError, faults: int, refusals: int) -> None:
        halts = FAILURE_CODES[error.code].halts_run
        if halts:
            self._halted = Halted(error.code, error.message)
        allowed = self._settings.max_attempts
        exhausted = faults >= allowed or refusals >= allowed * RATE_LIMITED_ATTEMPTS_FACTOR
        if not error.retryable or halts or exhausted:
            raise error
        if (error.retry_after_s or 0) > MAX_RETRY_AFTER_S:
            raise error

    async def _sleep(self, seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while (left := until - clock()) > 0:
            self.check_halted()
            await asyncio.sleep(min(left, CHECK_EVERY_S))

    def check_halted(self) -> None:
        """Raises Halted where no call is to be made any more."""
        if self._stopped():
            raise Halted("cancelled", "the run was stopped before this call")
        self._check_run()
        if self._halted is not None:
            raise Halted(self._halted.code, f"not called, because an earlier call ended so: {self._halted.message}")
        cap = self._settings.max_total_tokens
        if cap is not None and self._spent_tokens >= cap:
            raise Halted("budget_exhausted", f"the run's cap of {cap} tokens is reached; raise it and resume the run")
        if self._deadline is not None and time.time() >= self._deadline:
            raise Halted("deadline_exceeded", "the run's deadline has passed; resume the run to go on")

    def _backoff(self, error: ModelError, faults: int) -> float:
        """Seconds before the next attempt: what the service asked for, else full jitter over an exponential back-off
        (M. Brooker, "Exponential Backoff and Jitter", 2015)."""
        ceiling = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (faults - 1))
        return max(error.retry_after_s or 0.0, self._jitter.uniform(0, ceiling))

    async def _attempt(
        self, request: ModelRequest, prepared: Any, subject: CallSubject, tally: CallTally
    ) -> ModelAnswer:
        tally.attempts += 1
        begun = _begun_record(self._provider, request, subject, tally.attempts)
        tally.call_ids += (begun.llm_call_id,)
        with self._kept():
            self._sink.begin(begun)
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                answer = await self._provider.ask(request, prepared)
        except TimeoutError as error:
            timeout = ModelError(
                "model_timeout",
                f"no answer within {self._settings.deadline_s:g} s (deadline of one call)",
                retryable=True,
            )
            self._end(begun, started, error=timeout)
            raise timeout from error
        except ModelError as error:
            self._end(begun, started, error=error)
            raise
        self._end(begun, started, answer=answer)
        return answer

    def _end(
        self, begun: LlmCallRow, started: float, *, answer: ModelAnswer | None = None, error: ModelError | None = None
    ) -> None:
        failure = (error.code, error.message) if error is not None else answer.failure if answer is not None else None
        usage = answer.usage if answer is not None else Usage()
        ended = replace(
            begun,
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
        )
        self._spent_tokens += usage.total_tokens
        with self._kept():
            self._sink.end(ended)
        self._on_call(ended)

    @staticmethod
    @contextmanager
    def _kept() -> Iterator[None]:
        """Inside the block a record that cannot be written fails the call."""
        try:
            yield
        except StorageError as error:
            raise ModelError("storage_failed", str(error), retryable=True) from error


def _answer_of(call: LlmCallRow) -> ModelAnswer:
    """A recorded answer, as the provider gave it."""
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
    return ModelAnswer(call.response_text or "", call.finish_reason, usage, failure, model_version=call.model_version)


def _begun_record(provider: Provider, request: ModelRequest, subject: CallSubject, attempt: int) -> LlmCallRow:
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
        request=json.dumps(_described(request), ensure_ascii=False),
        response_text=None,
    )


def _described(request: ModelRequest) -> dict[str, object]:
    """A request as JSON: the shared instruction and schema by their hash, media by what and where, never its bytes."""
    media = request.media
    return {
        "instruction_sha256": digest(request.instruction),
        "text": request.text,
        "schema_sha256": digest(request.json_schema),
        "media": None
        if media is None
        else {
            "media_type": media.media_type,
            "item": media.item_key,
            "start_us": media.span.start_us,
            "end_us": media.span.end_us,
            "frames": len(media.frames),
            "has_audio": media.audio_file is not None,
        },
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
