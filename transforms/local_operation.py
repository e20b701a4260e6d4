"""Operations that a local model performs on a complete item, with one outcome for each of its segments."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from promptreel.schemas.errors import MediaError, ModelError, StorageError
from promptreel.schemas.outcomes import Operation
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.progress import ProgressBoard
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import Failure, ItemPlan, OperationOutcome, OutcomeBatch
from promptreel.transforms.unfinished import unfinished


def run_local_operation(
    plan: ItemPlan,
    operation: Operation,
    key: str,
    compute: Callable[[], dict[str, Any] | None],
    context: RunContext,
    cache: OperationCache,
    progress: ProgressBoard,
) -> OutcomeBatch:
    """Run an operation on one item and assign its outcome to each of the item's segments.

    Args:
        compute: returns the result to cache, or None if the run was stopped; called only if no result is cached.
    """
    outcome = _outcome_of(operation, key, compute, context, cache)
    reused = outcome.outcome == "succeeded" and outcome.attempts == 0
    progress.add_outcomes(operation, outcome.outcome, len(plan.tasks), reused=reused)
    return OutcomeBatch(plan.item.video_id, tuple((task.segment_id, outcome) for task in plan.tasks))


def _outcome_of(
    operation: Operation,
    key: str,
    compute: Callable[[], dict[str, Any] | None],
    context: RunContext,
    cache: OperationCache,
) -> OperationOutcome:
    try:
        stored = cache.get(key)
        if stored is not None:
            return OperationOutcome(operation, "succeeded", key, reused=stored.get("run_id") != context.run_id)
        result = compute()
        if result is None:
            return unfinished(context, operation, key, attempts=1)
        origin = {"run_id": context.run_id, "executed_at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        cache.put(key, {**result, **origin})
        return OperationOutcome(operation, "succeeded", key, attempts=1)
    except (ModelError, MediaError) as error:
        failure = Failure(error.code, error.message, error.retryable)
    except StorageError as error:
        failure = Failure("storage_failed", str(error), True)
    except Exception as error:
        logging.getLogger(__name__).exception("%s under key %s", operation, key)
        failure = Failure("internal_error", f"{type(error).__name__}: {error}", True)
    return OperationOutcome(operation, "failed", key, attempts=1, failure=failure)
