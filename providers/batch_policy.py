"""The call policy of batch calls: their records and retries, and live calls after the deadline of a job."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from promptreel.providers.base import ModelAnswer, ModelRequest, Provider
from promptreel.providers.batch_lane import BatchAnswer, BatchLane
from promptreel.providers.batch_watch import BatchDeadlinePassed
from promptreel.providers.call_policy import CallPolicy, CallSink, CallSubject, CallTally, Verdict, unchecked
from promptreel.providers.call_records import started_call
from promptreel.providers.call_requests import describe_request
from promptreel.schemas.errors import ModelError, PicklableError
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.ids import digest
from promptreel.schemas.settings import CallSettings
from promptreel.schemas.table_rows import LlmCallRow


def call_key(operation_key: str, request: ModelRequest) -> str:
    """Return what identifies a call in all attempts of a run: its operation and its request.

    The output budget is not part of it, so that a resume with another budget reads the answers of its jobs.
    """
    return digest([operation_key, describe_request(request), request.output_token_factor])


class _NotBuilt(PicklableError):
    """A request could not be built, after all attempts."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(error)
        self.error = error


class BatchPolicy(CallPolicy):
    """Calls through a batch lane; after the deadline of a job, live calls.

    A batch call is recorded when its answer is read: until then, the stored group of the lane is its record.

    Args:
        lane: an open lane.
        live: creates the policy of the live calls.
        options: of `CallPolicy`.
    """

    def __init__(
        self,
        provider: Provider,
        settings: CallSettings,
        sink: CallSink,
        *,
        lane: BatchLane,
        live: Callable[..., CallPolicy] = CallPolicy,
        **options: Any,
    ) -> None:
        super().__init__(provider, settings, sink, **options)
        self._lane = lane
        self._live = live(
            provider, settings, sink, **{**options, "check_run": self.check_halted, "on_call": self._count_live}
        )

    async def prepare(self, request: ModelRequest, subject: CallSubject | None = None) -> Any:
        """Return None: the media of a batch call is built when the call is added to its group, to save memory."""
        return None

    async def call(
        self,
        request: ModelRequest,
        prepared: Any,
        subject: CallSubject,
        tally: CallTally,
        check: Callable[[ModelAnswer], Verdict] = unchecked,
    ) -> ModelAnswer:
        attempts = self._attempts_at(subject.operation_key)
        while True:
            self.check_halted()
            try:
                return await self._call_in_batch(request, subject, tally, check)
            except BatchDeadlinePassed:
                prepared = await self._live.prepare(request, subject)
                return await self._live.call(request, prepared, subject, tally, check)
            except _NotBuilt as failure:
                raise failure.error from None
            except ModelError as error:
                if FAILURE_CODES[error.code].halts_run:
                    self._health.halt_calls(error)
                await self._sleep(attempts.pause_after(error, None))

    def _count_live(self, call: LlmCallRow) -> None:
        self._spent_tokens += call.total_tokens
        self._on_call(call)

    async def _call_in_batch(
        self,
        request: ModelRequest,
        subject: CallSubject,
        tally: CallTally,
        check: Callable[[ModelAnswer], Verdict],
    ) -> ModelAnswer:
        key = call_key(subject.operation_key, request)

        async def build() -> bytes:
            try:
                prepared = await CallPolicy.prepare(self, request, subject)
                body = await self._provider.batch_request(request, prepared)
            except ModelError as error:
                raise _NotBuilt(error) from error
            return json.dumps({"key": key, "request": body}, ensure_ascii=False).encode("utf-8", "replace")

        answer = await self._lane.answer(key, build)
        try:
            return self._record(answer, request, subject, tally, check)
        finally:
            await self._lane.add_recorded(answer)

    def _record(
        self,
        answer: BatchAnswer,
        request: ModelRequest,
        subject: CallSubject,
        tally: CallTally,
        check: Callable[[ModelAnswer], Verdict],
    ) -> ModelAnswer:
        """Check and record an answer; raise the error of a failed call."""
        tally.attempts += 1
        sent_at = datetime.fromtimestamp(answer.sent_at, UTC).isoformat(timespec="microseconds")
        call = started_call(self._provider, request, subject, tally.attempts, "batch", sent_at)
        tally.call_ids += (call.llm_call_id,)
        with self._storage_errors_as_failures():
            self._sink.begin(call)
        started = time.monotonic() - (time.time() - answer.sent_at)
        if isinstance(answer.result, ModelError):
            self._end(call, started, error=answer.result)
            raise answer.result
        verdict = unchecked(answer.result)
        try:
            verdict = check(answer.result)
        finally:  # the record of a paid answer is written even if the check has a defect
            self._end(call, started, answer=answer.result, verdict=verdict)
        return answer.result
