"""The timeline of a whole item in a bounded number of blocks, however many segments it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from promptreel.pages.timeline import Span, blocks

MAX_BLOCKS: Final = 120
_ORDER: Final = ("failed", "processing", "pending", "cancelled", "succeeded")  # the worst status first


@dataclass(frozen=True, slots=True)
class LinkedBlock:
    """One segment, or several neighbouring ones, on a timeline; `x` and `width` as in TimelineBlock.

    Attributes:
        first, last: numbers of its segments in the item, from 1.
        segment_id: of the first one.
        status: the worst of its segments.
        start_reason: why the first one starts where it does.
    """

    x: float
    width: float
    lane: int
    first: int
    last: int
    segment_id: str
    start_us: int
    end_us: int
    status: str
    start_reason: str


def linked_blocks(segments: Sequence[Mapping[str, Any]], duration_us: int) -> tuple[LinkedBlock, ...]:
    """Place the segments of an item on its timeline: each as a block, or neighbours together if they are too many.

    Args:
        segments: rows of `segments` in order of time, with segment_id, start_us, end_us, status and start_reason.
    """
    size = max(1, -(-len(segments) // MAX_BLOCKS))
    groups = [segments[at : at + size] for at in range(0, len(segments), size)]
    spans = [Span(group[0]["start_us"], max(row["end_us"] for row in group)) for group in groups]
    placed = blocks(spans, duration_us)
    return tuple(
        LinkedBlock(
            x=block.x,
            width=block.width,
            lane=block.lane if size == 1 else 0,
            first=number * size + 1,
            last=number * size + len(group),
            segment_id=group[0]["segment_id"],
            start_us=span.start_us,
            end_us=span.end_us,
            status=min((row["status"] for row in group), key=_rank),
            start_reason=group[0]["start_reason"],
        )
        for number, (group, span, block) in enumerate(zip(groups, spans, placed, strict=True))
    )


def _rank(status: str) -> int:
    return _ORDER.index(status) if status in _ORDER else len(_ORDER)
