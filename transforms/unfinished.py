"""Outcomes of operations that an attempt did not start."""

from __future__ import annotations

from dataclasses import replace

from promptreel.schemas.outcomes import Operation
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import Failure, ItemPlan, OperationOutcome


def unfinished(context: RunContext, operation: Operation, key: str, attempts: int = 0) -> OperationOutcome:
    """Return the outcome of an unstarted operation: cancelled after a stop, failed in a commit-only attempt."""
    failure = _interruption(context)
    if failure is None:
        return OperationOutcome(operation, "cancelled", key, attempts=attempts)
    return OperationOutcome(operation, "failed", key, attempts=attempts, failure=failure)


def unfinished_plan(context: RunContext, plan: ItemPlan) -> ItemPlan:
    """Return the plan of an unsegmented item as cancelled after a stop, as failed in a commit-only attempt."""
    failure = _interruption(context)
    return replace(plan, cancelled=False, failure=failure) if plan.cancelled and failure is not None else plan


def _interruption(context: RunContext) -> Failure | None:
    return None if context.commit_only is None else Failure("interrupted", context.commit_only, True)
