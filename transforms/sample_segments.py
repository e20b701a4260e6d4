"""Choose the segments of an item that a sample contains."""

from __future__ import annotations

from dataclasses import replace

from promptreel.schemas.sampling import random_order
from promptreel.schemas.settings import RunSettings
from promptreel.transforms.elements import ItemPlan


def sampled_plan(plan: ItemPlan, settings: RunSettings) -> ItemPlan:
    """Reduce a plan to the segments that the sample contains, ordered by time; without a sample it stays as it is.

    The choice depends only on the seed and the ids of the segments, so a resume and an estimate choose the same ones.
    """
    sample, count = settings.sample, plan.item.sample_segments
    if sample is None or count is None or count >= len(plan.tasks):
        return plan
    order = random_order([task.segment_id for task in plan.tasks], sample.seed)
    chosen = sorted(order[:count])
    return replace(plan, tasks=tuple(plan.tasks[at] for at in chosen), sampled_from=len(plan.tasks))
