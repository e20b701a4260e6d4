"""One worker's connection to the run's model: provider, call policy, operation cache, progress."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from providers.answers import CheckedAnswer, ask_checked
from providers.base import ModelRequest
from providers.call_policy import CallPolicy, CallSubject, CallTally, Halted
from providers.registry import provider_of
from schemas.errors import ModelError, StorageError
from schemas.ids import digest
from schemas.outcomes import Operation
from schemas.records import LlmCallRow
from tables.call_log import CallLog
from tables.operation_cache import OperationCache
from tables.stop_signal import StopSignal
from transforms.context import RunContext, shard_of
from transforms.elements import Failure, OperationOutcome

# A failure of one of these kinds may pass when the run is resumed.
_RETRYABLE_HALTS = frozenset(
    {"budget_exhausted", "deadline_exceeded", "quota_exhausted", "model_auth", "model_not_found"}
)


@dataclass(frozen=True, slots=True)
class Made:
    """A finished operation, as the cache keeps it."""

    metadata: dict[str, Any]
    warning: str | None
    details: dict[str, Any] = field(default_factory=dict)


class ModelSession:
    """Runs operations: from the cache where they are finished, else by asking the model."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self.storage = context.storage()
        self.cache = OperationCache(self.storage)
        self.provider = provider_of(context.request.settings)
        self._progress = context.progress(self.storage)
        self._stop = StopSignal(self.storage, context.run_id)

    async def open(self) -> None:
        """Acquires the model's client and the call policy in the running event loop."""
        await self.provider.open()
        context = self._context
        self._policy = CallPolicy(
            self.provider,
            context.request.settings.calls,
            CallLog(self.storage, context.run_id, context.attempt, lambda video_id: shard_of(video_id, context.shards)),
            stopped=self._stop.is_set,
            on_call=self._count_call,
            deadline=context.deadline,
            spent_tokens=context.spent_tokens,
        )

    async def close(self) -> None:
        """Releases the model's client."""
        await self.provider.close()

    def scoped(self, key: str) -> str:
        """The key under which this run keeps an operation: its own where it may not reuse other runs' results."""
        return key if self._context.request.settings.reuse_results else digest([key, self._context.run_id])

    async def run_operation(
        self,
        operation: Operation,
        key: str,
        subject: CallSubject,
        build: Callable[[], Awaitable[ModelRequest]],
        finish: Callable[[CheckedAnswer], Made],
    ) -> OperationOutcome:
        """Ends one operation in exactly one outcome; what succeeded is durable before it counts.

        Args:
            build: makes the request; called only when the model is to be asked.
            finish: makes the kept value of a checked answer.
        """
        tally = CallTally()
        try:
            kept = await asyncio.to_thread(self.cache.get, key)
            if kept is not None:
                reused = kept.get("run_id") != self._context.run_id
                self._progress.add(operations_done=1, operations_reused=1)
                return OperationOutcome(operation, "succeeded", key, reused=reused)
            answer = await ask_checked(self.provider, self._policy, await build(), subject, tally)
            made = finish(answer)
            await asyncio.to_thread(self.cache.put, key, self._entry(made, answer, tally))
            self._progress.add(operations_done=1)
            return OperationOutcome(operation, "succeeded", key, attempts=tally.attempts)
        except Halted as halt:
            return self._halted(operation, key, tally, halt)
        except ModelError as error:
            return self._failed(operation, key, tally, Failure(error.code, error.message, error.retryable))
        except StorageError as error:
            return self._failed(operation, key, tally, Failure("storage_failed", str(error), True))
        except Exception as error:
            logging.getLogger(__name__).exception("%s of %s", operation, subject)
            failure = Failure("internal_error", f"{type(error).__name__}: {error}", True)
            return self._failed(operation, key, tally, failure)

    def _entry(self, made: Made, answer: CheckedAnswer, tally: CallTally) -> dict[str, Any]:
        return {
            "metadata": made.metadata,
            "warning": made.warning,
            **made.details,
            "text": answer.text,
            "model": self.provider.name,
            "llm_call_ids": list(tally.call_ids),
            "run_id": self._context.run_id,
            "executed_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }

    def _halted(self, operation: Operation, key: str, tally: CallTally, halt: Halted) -> OperationOutcome:
        if halt.code == "cancelled":
            self._progress.add(operations_done=1, operations_cancelled=1)
            return OperationOutcome(operation, "cancelled", key, attempts=tally.attempts)
        failure = Failure(halt.code, halt.message, halt.code in _RETRYABLE_HALTS)
        return self._failed(operation, key, tally, failure)

    def _failed(self, operation: Operation, key: str, tally: CallTally, failure: Failure) -> OperationOutcome:
        self._progress.add(operations_done=1, operations_failed=1)
        return OperationOutcome(operation, "failed", key, attempts=tally.attempts, failure=failure)

    def _count_call(self, call: LlmCallRow) -> None:
        self._progress.add(
            calls=1,
            calls_failed=int(call.status != "success"),
            input_tokens=call.input_tokens,
            output_tokens=call.output_tokens + call.thought_tokens,
        )
