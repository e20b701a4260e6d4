"""Choose the segments of an item that a sample contains."""

from __future__ import annotations

from collections.abc import Sequence

from promptreel.schemas.sampling import random_order
from promptreel.schemas.settings import RunSettings
from promptreel.transforms.elements import ItemPlan, MediaItem, SegmentTask


def sampled_plan(item: MediaItem, key: str, tasks: Sequence[SegmentTask], settings: RunSettings) -> ItemPlan:
    """Plan an item with the segments that the sample contains, ordered by time; all of them without a sample.

    The choice depends only on the seed and the ids of the segments, so a resume and an estimate choose the same ones.

    Args:
        tasks: all segments of the item.
    """
    sample = settings.sample
    if sample is None or item.sample_segments is None or item.sample_segments >= len(tasks):
        return ItemPlan(item, key, tuple(tasks))
    order = random_order([task.segment_id for task in tasks], sample.seed)
    chosen = sorted(order[: item.sample_segments])
    return ItemPlan(item, key, tuple(tasks[at] for at in chosen), sampled_from=len(tasks))
