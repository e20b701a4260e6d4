"""What the segments table adds to results: operations that did not run, and segments without a result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from promptreel.tables.reader import CommittedRun, read_rows
from promptreel.tables.storage import Storage


def with_segment_warnings(storage: Storage, run: CommittedRun, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return results or syntheses whose warning also names the requested operations that did not run."""
    items = sorted({row["video_id"] for row in rows})
    segments = read_rows(storage, run, "segments", "list_contains($items, video_id)", items=items)
    texts = {row["video_id"]: row["warnings"] or () for row in segments}
    return [
        {**row, "warning": "; ".join(filter(None, (row["warning"], *texts.get(row["video_id"], ())))) or None}
        for row in rows
    ]


def segments_without_result(storage: Storage, run: CommittedRun, items: Sequence[str]) -> str:
    """Return how many segments of some items have no result and why; empty if all have one."""
    where = "list_contains($items, video_id) AND field_extraction <> 'succeeded'"
    outcomes = Counter(row["field_extraction"] for row in read_rows(storage, run, "segments", where, items=list(items)))
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    return f"segments without a result: {counts}" if counts else ""
