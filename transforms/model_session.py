"""One worker's connection to the run's model: provider, call policy, operation cache, progress."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from promptreel.providers.answers import CheckedAnswer, generate_checked
from promptreel.providers.base import ModelAnswer, ModelRequest, Provider
from promptreel.providers.call_policy import CallSubject, CallTally, Halted
from promptreel.providers.prices import with_cost
from promptreel.schemas.errors import ModelError, StorageError
from promptreel.schemas.money import cost_counts, total_nanos
from promptreel.schemas.outcomes import Operation
from promptreel.schemas.table_rows import LlmCallRow
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.operation_claims import Claim, OperationClaims
from promptreel.tables.shards import shard_of
from promptreel.transforms.call_lanes import CallLane
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import Failure, OperationOutcome
from promptreel.transforms.priced_calls import PricedCallLog
from promptreel.transforms.served_model import ServedModel, key_of_version, version_mismatch
from promptreel.transforms.spending import spending_of
from promptreel.transforms.unfinished import unfinished


class ModelSession:
    """Runs operations: reuses cached results, otherwise calls the model."""

    def __init__(self, context: RunContext, provider: Provider) -> None:
        self._context = context
        self.storage = context.storage()
        self.cache = OperationCache(self.storage)
        self.provider = provider
        # Results of a local model cost no money, and those of a run without reuse concern no other run.
        self._shares_calls = provider.is_called and context.request.settings.reuse_results
        self._claims = OperationClaims(self.storage, context.run_id, context.attempt, self.cache.get)
        self._progress = context.progress(self.storage)
        self._spending = spending_of(self.storage.root, context.run_id, context.attempt)
        self._health = self._spending.health_of(
            provider.name,
            context.request.settings.calls.max_outage_s,
            lambda state: self._progress.set_service_state(provider.name, state),
        )
        self._stop = context.stop_signal(self.storage)
        self._lane: CallLane | None = None
        self._calls = PricedCallLog(
            context.request.settings.prices,
            self.storage,
            context.run_id,
            context.attempt,
            lambda video_id: shard_of(video_id, context.shards),
            context.repeat_failed_until,
        )

    async def open(self) -> None:
        """Open the model's client and the call policy in the running event loop."""
        await self.provider.open()
        if self._shares_calls:
            await self._claims.open()
        context = self._context
        self._lane = CallLane(
            context,
            self.storage,
            self.provider,
            self._calls,
            stopped=self._stop.is_set,
            check_run=self._check_run,
            on_call=self._count_call,
            deadline=context.deadline,
            spent_tokens=context.spent_tokens + self._spending.tokens,
            health=self._health,
        )
        self._policy = self._lane.policy
        await self._lane.open()
        self._served = ServedModel(self.provider, self._policy.check_halted)
        self._keys_of_versions: dict[str, str] = {}

    async def close(self) -> None:
        """Close the model's client and give up all claims."""
        if self._lane is not None:
            await self._lane.close()
        await self._claims.close()
        await self.provider.close()

    def expect_more(self, is_expected: bool) -> None:
        """Set whether further operations arrive; calls that wait for company are otherwise sent. Thread-safe."""
        if self._lane is not None:
            self._lane.expect_more(is_expected)

    async def generate(self, request: ModelRequest, subject: CallSubject, tally: CallTally) -> CheckedAnswer:
        """Call the model and validate its answer; see `promptreel.providers.answers.generate_checked`."""
        if (key := self._keys_of_versions.get(subject.operation_key)) is not None:
            subject = replace(subject, operation_key=key, earlier_key=None)
        answer = await generate_checked(self.provider, self._policy, request, subject, tally)
        self._served.observe(answer.model_version)
        return answer if (warning := self._version_warning(answer)) is None else replace(answer, warning=warning)

    async def embed(self, request: ModelRequest, subject: CallSubject, tally: CallTally) -> ModelAnswer:
        """Call an embedding model; its vectors need no validation.

        Raises:
            ModelError, Halted: from the call policy.
        """
        if self.provider.is_called:
            return await self._policy.call(request, None, subject, tally)
        self._policy.check_halted()
        return await self.provider.call(request, None)

    async def run_operation(
        self,
        operation: Operation,
        key: str,
        compute: Callable[[CallTally], Awaitable[dict[str, Any]]],
        earlier_key: str | None = None,
    ) -> OperationOutcome:
        """Run one operation to exactly one outcome; a result is durable before the operation counts as succeeded.

        Args:
            compute: returns the result to cache and counts its calls; called only if no result is cached. A result that
                earlier runs produced has their `run_id` and `executed_at`.
            earlier_key: key under which an earlier version stored the result.
        """
        tally = CallTally()
        claim: Claim | None = None
        try:
            stored, claim = await self._find_or_claim(key, earlier_key)
            if stored is not None and (version := await self._other_version(stored)) is not None:
                asked_key, key = key, key_of_version(key, version)
                self._keys_of_versions[asked_key] = key
                stored, claim = await self._find_or_claim(key, None)
            if stored is not None:
                reused = stored.get("run_id") != self._context.run_id
                self._progress.add_outcomes(operation, "succeeded", reused=True)
                return OperationOutcome(operation, "succeeded", key, reused=reused)
            result = await compute(tally)
            result = {**self._provenance(tally), **result}
            await asyncio.to_thread(self._store, key, result, claim)
            reused = result["run_id"] != self._context.run_id
            self._progress.add_outcomes(operation, "succeeded", reused=reused)
            return OperationOutcome(operation, "succeeded", key, reused=reused, attempts=tally.attempts)
        except Halted as halt:
            return self._halted(operation, key, tally, halt)
        except ModelError as error:
            return self._failed(operation, key, tally, Failure(error.code, error.message, error.retryable))
        except StorageError as error:
            return self._failed(operation, key, tally, Failure("storage_failed", str(error), True))
        except Exception as error:
            logging.getLogger(__name__).exception("%s under key %s", operation, key)
            failure = Failure("internal_error", f"{type(error).__name__}: {error}", True)
            return self._failed(operation, key, tally, failure)
        finally:
            if self._claims.holds(claim):
                await asyncio.to_thread(self._claims.release, claim)

    async def find_earlier(self, key: str) -> tuple[str, dict[str, Any]] | None:
        """Return the key and the value of a cached result of the version that answers now; None if it is missing.

        Raises:
            StorageError: storage is unavailable.
        """
        stored = await asyncio.to_thread(self.cache.get, key)
        if stored is not None and (version := await self._other_version(stored)) is not None:
            key = key_of_version(key, version)
            stored = await asyncio.to_thread(self.cache.get, key)
        return None if stored is None else (key, stored)

    async def _find_or_claim(self, key: str, earlier_key: str | None) -> tuple[dict[str, Any] | None, Claim | None]:
        """Return the cached result, or the claim to compute it, after waiting for another run that computes it now."""
        find = functools.partial(self.cache.find, key, earlier_key)
        if not self._shares_calls:
            return await asyncio.to_thread(find), None
        return await self._claims.find_or_claim(key, find, self._policy.check_halted)

    async def _other_version(self, stored: dict[str, Any]) -> str | None:
        """Return the version that answers now if a result of another run is of another version; None to reuse it."""
        if stored.get("run_id") == self._context.run_id:
            return None
        try:
            return await self._served.other_version(stored)
        except Halted:  # no calls are made, so results of two versions cannot mix
            return None

    def _version_warning(self, answer: CheckedAnswer) -> str | None:
        version = answer.model_version
        if version is None or self.provider.is_served_by(version):
            return None
        return "; ".join(filter(None, (answer.warning, version_mismatch(self.provider.name, version))))

    def _check_run(self) -> None:
        if self.provider.is_called:
            self._spending.check_halted()
            self._spending.check_cost(self._context.request.settings.calls.max_cost, self._context.spent_nanos)

    def _store(self, key: str, value: dict[str, Any], claim: Claim | None) -> None:
        """Persist the records of an operation's calls, then its result; then give up the claim."""
        self._calls.sync()
        self.cache.put(key, value)
        self._claims.release(claim)

    def _provenance(self, tally: CallTally) -> dict[str, Any]:
        """Return the model, calls, run and time that produced a result."""
        return {
            "model": self.provider.name,
            "llm_call_ids": list(tally.call_ids),
            "run_id": self._context.run_id,
            "executed_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }

    def _halted(self, operation: Operation, key: str, tally: CallTally, halt: Halted) -> OperationOutcome:
        if halt.code == "cancelled":
            outcome = unfinished(self._context, operation, key, tally.attempts)
            self._progress.add_outcomes(operation, outcome.outcome)
            return outcome
        # Always retryable: a resume makes the call, whatever halted the calls of this attempt.
        return self._failed(operation, key, tally, Failure(halt.code, halt.message, retryable=True))

    def _failed(self, operation: Operation, key: str, tally: CallTally, failure: Failure) -> OperationOutcome:
        self._progress.add_outcomes(operation, "failed")
        return OperationOutcome(operation, "failed", key, attempts=tally.attempts, failure=failure)

    def _count_call(self, call: LlmCallRow) -> None:
        call = with_cost(call, self._context.request.settings.prices)
        cost = cost_counts(call.cost, call.currency, call.total_tokens)
        self._spending.add(call.total_tokens, total_nanos(cost))
        self._progress.add(
            calls=1,
            calls_failed=int(call.status != "success"),
            input_tokens=call.input_tokens,
            output_tokens=call.output_tokens,
            thought_tokens=call.thought_tokens,
            cached_tokens=call.cached_tokens,
            total_tokens=call.total_tokens,
            **cost,
        )
