"""The status of an item, from its outcomes, and of a run, from its counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from promptreel.schemas.outcomes import ItemStatus
from promptreel.tables.manifest import RunStatus
from promptreel.transforms.elements import ItemOutcome

# The operations that answer the prompt; the others only add to their results.
_ANSWERS: Final = frozenset({"field_extraction", "synthesis"})


def item_status(item: ItemOutcome) -> ItemStatus:
    """Derive an item's status.

    Processing while it is unfinished; cancelled if the run was stopped before the item was finished; completed if nothing in
    it fits the user's definition of a segment; failed if it has no answer, whatever else succeeded; partial if an operation
    failed beside an answer; otherwise completed.
    """
    if not item.is_finished:
        return "processing"
    if item.plan.failure is not None:
        return "failed"
    if item.plan.cancelled:
        return "cancelled"
    if not item.segments:
        return "completed"
    outcomes = [outcome for outcome in (item.synthesis, item.text_embedding) if outcome is not None]
    outcomes += [outcome for segment in item.segments for outcome in segment.outcomes]
    ended = {outcome.outcome for outcome in outcomes}
    if "cancelled" in ended:
        return "cancelled"
    if not any(outcome.outcome == "succeeded" and outcome.operation in _ANSWERS for outcome in outcomes):
        return "failed"
    return "partial" if "failed" in ended else "completed"


def run_status(counts: Mapping[str, int], *, stopped: bool) -> RunStatus:
    """Derive a run's status from the counts of its rows.

    Cancelled if a stop left items unfinished; completed if all items completed; failed if the run has no answer, whatever
    else succeeded; otherwise completed with failures.
    """
    if stopped and counts.get("media.cancelled", 0):
        return "cancelled"
    if counts.get("media.completed", 0) == counts.get("media.total", 0):
        return "completed"
    answers = counts.get("results.total", 0) + counts.get("video_results.total", 0)
    return "completed_with_failures" if answers else "failed"
