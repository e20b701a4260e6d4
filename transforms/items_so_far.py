"""Assemble the items of a run in progress from its outcome log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from promptreel.providers.registry import is_gemini
from promptreel.providers.token_estimate import has_synthesis
from promptreel.schemas.outcomes import OPERATIONS, Operation
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import ItemOutcome, ItemPlan, OperationOutcome, SegmentOutcome
from promptreel.transforms.not_run import NotRun
from promptreel.transforms.outcome_log import LogEntry

# Each yields exactly one batch for every item.
_ITEM_BATCHES: tuple[Operation, ...] = ("transcription", "image_embedding")


@dataclass
class _Known:
    """What the log says about one item.

    Attributes:
        outcomes: by segment and operation.
        ended: operations that have ended for the item, or do not apply to it; for field extraction, for some segment.
    """

    plan: ItemPlan | None = None
    outcomes: dict[tuple[str, Operation], OperationOutcome] = field(default_factory=dict)
    item_outcomes: dict[Operation, OperationOutcome] = field(default_factory=dict)
    ended: set[Operation] = field(default_factory=set)
    warnings: set[NotRun] = field(default_factory=set)


def items_so_far(entries: Iterable[tuple[int, LogEntry]], context: RunContext) -> list[ItemOutcome]:
    """Return the planned items with the outcomes so far.

    Of earlier attempts only successes count, because this attempt repeats everything else.

    Args:
        entries: (attempt, entry) of one shard.
    """
    known: dict[str, _Known] = {}
    for attempt, entry in sorted(entries, key=lambda pair: pair[0]):
        item = known.setdefault(entry.video_id, _Known())
        _add(item, entry, is_current=attempt == context.attempt)
    return [_item(item.plan, item, context) for item in known.values() if item.plan is not None]


def _add(item: _Known, entry: LogEntry, *, is_current: bool) -> None:
    if entry.plan is not None:
        if is_current or (entry.plan.failure is None and not entry.plan.cancelled):
            item.plan = entry.plan
        return
    assert entry.operation is not None
    outcomes = [outcome for _, outcome in entry.batch.outcomes] if entry.batch is not None else [entry.outcome]
    if is_current or all(outcome is None or outcome.outcome == "succeeded" for outcome in outcomes):
        item.ended.add(entry.operation)
    if entry.batch is not None:
        if is_current:
            item.warnings.update(entry.batch.warnings)
        for segment_id, outcome in entry.batch.outcomes:
            if is_current or outcome.outcome == "succeeded":
                item.outcomes[segment_id, entry.operation] = outcome
    if entry.outcome is not None and (is_current or entry.outcome.outcome == "succeeded"):
        item.item_outcomes[entry.operation] = entry.outcome


def _item(plan: ItemPlan, item: _Known, context: RunContext) -> ItemOutcome:
    segments = []
    for task in plan.tasks:
        found = [item.outcomes.get((task.segment_id, operation)) for operation in OPERATIONS]
        outcomes = tuple(outcome for outcome in found if outcome is not None)
        operations = {outcome.operation for outcome in outcomes}
        is_finished = {"field_extraction", *_ITEM_BATCHES} <= operations | (item.ended & {*_ITEM_BATCHES})
        segments.append(SegmentOutcome(task, outcomes, is_finished))
    return ItemOutcome(
        plan,
        tuple(segments),
        synthesis=item.item_outcomes.get("synthesis"),
        text_embedding=item.item_outcomes.get("text_embedding"),
        warnings=tuple(sorted({*item.warnings, *plan.warnings})),
        is_finished=all(segment.is_finished for segment in segments)
        and all(_has_ended(operation, item) for operation in _item_operations(plan, segments, context)),
    )


def _has_ended(operation: Operation, item: _Known) -> bool:
    return operation in item.ended or operation in item.item_outcomes


def _item_operations(plan: ItemPlan, segments: Sequence[SegmentOutcome], context: RunContext) -> list[Operation]:
    """The operations on the item that must end before it counts as finished.

    Local text embedding is not among them: it starts only after the segments of all items, and hardly ever fails.
    """
    if not segments:
        return []
    prompt, settings = context.request.prompt, context.request.settings
    embeds_remotely = settings.text_embedding.enabled and is_gemini(settings.text_embedding.model)
    found: list[Operation] = ["synthesis"] if has_synthesis(prompt, segments[0].task.media_type) else []
    return [*found, "text_embedding"] if embeds_remotely else found
