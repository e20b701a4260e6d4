"""Everything that a run's tables have about one item, or about one of its segments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from promptreel.schemas.errors import InvalidInput
from promptreel.tables.reader import CommittedRun, read_rows
from promptreel.tables.storage import Storage

Row = dict[str, Any]


@dataclass(frozen=True)
class ItemDetails:
    """One item: rows of the tables as they are stored.

    Attributes:
        results, transcripts: by segment id.
        synthesis: row of `video_results`; None if the item has none.
        calls: the calls for the segment and for its answer that this run made; empty for a complete item.
        earlier_calls: ids of the calls that gave the answer in an earlier run, whose rows are in that run.
    """

    run: CommittedRun
    item: Row
    segments: Sequence[Row]
    results: dict[str, Row]
    transcripts: dict[str, Row]
    synthesis: Row | None
    failures: Sequence[Row]
    calls: Sequence[Row] = ()
    earlier_calls: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values; each segment has its `result`, with the parsed `metadata`, and its `transcript`."""
        return {
            "run_id": self.run.run_id,
            "item": self.item,
            "segments": [
                {
                    **row,
                    "result": _result(self.results.get(row["segment_id"])),
                    "transcript": self.transcripts.get(row["segment_id"]),
                }
                for row in self.segments
            ],
            "synthesis": _result(self.synthesis),
            "failures": list(self.failures),
            "calls": list(self.calls),
            "earlier_calls": list(self.earlier_calls),
        }


def item_details(storage: Storage, run: CommittedRun, item: Row, segment: str | None = None) -> ItemDetails:
    """Read what a run has about an item.

    Args:
        item: its row of `media`.
        segment: only this segment, by its number, its id or the start of its id; without it, all segments.

    Raises:
        InvalidInput: the item has no such segment.
        RunDamaged: a part is missing or truncated.
    """

    def rows(table: str) -> list[Row]:
        return read_rows(storage, run, table, "video_id = $item", item=item["video_id"])

    segments = rows("segments")
    if segment is None:
        return ItemDetails(
            run, item, segments, _by_segment(rows("results")), _by_segment(rows("transcripts")),
            next(iter(rows("video_results")), None), rows("failures"),
        )  # fmt: skip
    chosen = find_segment(segments, segment, item["name"])
    segment_id = chosen["segment_id"]
    results = {key: row for key, row in _by_segment(rows("results")).items() if key == segment_id}
    call_ids = list(results[segment_id]["llm_call_ids"] or ()) if results else []
    calls = read_rows(
        storage, run, "llm_calls", "segment_id = $segment OR list_contains($ids, llm_call_id)",
        segment=segment_id, ids=call_ids,
    )  # fmt: skip
    known = {call["llm_call_id"] for call in calls}
    return ItemDetails(
        run, item, [chosen], results,
        {key: row for key, row in _by_segment(rows("transcripts")).items() if key == segment_id},
        None, [row for row in rows("failures") if row["segment_id"] == segment_id],
        calls, [call_id for call_id in call_ids if call_id not in known],
    )  # fmt: skip


def find_segment(segments: Sequence[Row], text: str, name: str) -> Row:
    """Find a segment by its number, its id or the start of its id.

    Raises:
        InvalidInput: no segment fits, or several do.
    """
    found = [row for row in segments if text in (str(row["segment_number"]), row["segment_id"])]
    found = found or [row for row in segments if row["segment_id"].startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidInput(f"segment {text!r} fits {len(found)} segments of {name}; give its number or a longer id")
    numbers = [row["segment_number"] for row in segments]
    has = f"has the segments {min(numbers)} to {max(numbers)}" if numbers else "has no segments"
    raise InvalidInput(f"no segment {text!r}; {name} {has}")


def _by_segment(rows: Sequence[Row]) -> dict[str, Row]:
    return {row["segment_id"]: row for row in rows}


def _result(row: Row | None) -> Row | None:
    """A row of `results` or `video_results` with its answer as JSON values; `fields` repeats it."""
    if row is None:
        return None
    return {**{key: value for key, value in row.items() if key != "fields"}, "metadata": json.loads(row["metadata"])}
