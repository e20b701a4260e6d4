"""How operations end that an attempt did not begin."""

from __future__ import annotations

from dataclasses import replace

from promptreel.schemas.outcomes import Operation
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import Failure, ItemPlan, OperationOutcome


def unfinished(context: RunContext, operation: Operation, key: str, attempts: int = 0) -> OperationOutcome:
    """The outcome of an operation that was not begun: cancelled after a stop, failed in an attempt that only commits."""
    failure = _interruption(context)
    if failure is None:
        return OperationOutcome(operation, "cancelled", key, attempts=attempts)
    return OperationOutcome(operation, "failed", key, attempts=attempts, failure=failure)


def unfinished_plan(context: RunContext, plan: ItemPlan) -> ItemPlan:
    """The same for an item: one that was not segmented is cancelled after a stop, failed in an attempt that only commits."""
    failure = _interruption(context)
    return replace(plan, cancelled=False, failure=failure) if plan.cancelled and failure is not None else plan


def _interruption(context: RunContext) -> Failure | None:
    return None if context.commit_only is None else Failure("interrupted", context.commit_only, True)
