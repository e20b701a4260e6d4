"""Find the answer of a run that each label is about."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from promptreel.schemas.errors import InvalidInput
from promptreel.tables.item_names import names_of
from promptreel.tables.reader import CommittedRun, read_rows
from promptreel.tables.scoring.labels import Label
from promptreel.tables.storage import Storage

Level = Literal["segment", "item"]
Row = Mapping[str, Any]

ITEM_NOT_IN_RUN: Final = "the run has no such item"
SEGMENT_NOT_IN_RUN: Final = "the item has no such segment"
TIME_NOT_IN_RUN: Final = "the item has no segment at that time"
NO_SINGLE_SEGMENT: Final = (
    "the item has several segments and no synthesis; add segment_id, time, or start_time and end_time"
)


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """The answer that a label is about.

    Attributes:
        level: segment, or item for a synthesis.
        metadata: None if the run has no answer, e.g. because the call failed.
    """

    level: Level
    video_id: str
    segment_id: str | None
    start_us: int | None
    metadata: Mapping[str, Any] | None


@dataclass(frozen=True)
class MatchedLabels:
    """The labels of a run.

    Attributes:
        answers: by row number of the label; labels without a counterpart in the run are missing.
        unmatched: row numbers of those labels by the reason.
    """

    answers: dict[int, LabelledAnswer] = field(default_factory=dict)
    unmatched: dict[str, list[int]] = field(default_factory=dict)


def match_labels(storage: Storage, run: CommittedRun, labels: Sequence[Label]) -> MatchedLabels:
    """Match labels with the segments and items of a run.

    A label with `segment_id` is about that segment; one with a time, about the segment that contains it or overlaps it most
    (by at least half of the label or the segment); any other, about the synthesis of the item, or its only segment.

    Raises:
        InvalidInput: a label's name fits several items.
        RunDamaged: a table of the run is missing or unreadable.
    """
    items = _items_by_name(read_rows(storage, run, "media"))
    chosen = sorted({str(row["video_id"]) for label in labels for row in items.get(label.item, ())[:1]})
    segments: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(storage, run, "segments", "list_contains($chosen, video_id)", chosen=chosen):
        segments[row["video_id"]].append(row)
    of_segments = _metadata(storage, run, "results", "segment_id", chosen)
    of_items = _metadata(storage, run, "video_results", "video_id", chosen)
    matched = MatchedLabels()
    for label in labels:
        found = _match(label, items.get(label.item, ()), segments, run.prompt.video_level is not None)
        if isinstance(found, str):
            matched.unmatched.setdefault(found, []).append(label.row)
            continue
        video_id, segment = found
        if segment is None:
            answer = LabelledAnswer("item", video_id, None, None, of_items.get(video_id))
        else:
            segment_id = segment["segment_id"]
            answer = LabelledAnswer("segment", video_id, segment_id, segment["start_us"], of_segments.get(segment_id))
        matched.answers[label.row] = answer
    return matched


def _match(
    label: Label, items: Sequence[Row], segments: Mapping[str, list[Row]], has_synthesis: bool
) -> str | tuple[str, Row | None]:
    """Return (item id, segment or None for the item itself), or the reason why there is none."""
    if not items:
        return ITEM_NOT_IN_RUN
    if len(items) > 1:
        shown = ", ".join(sorted(row["video_id"] for row in items))
        raise InvalidInput(f"labels row {label.row}: {label.item!r} fits several items ({shown}); use video_id")
    video_id = items[0]["video_id"]
    own = segments.get(video_id, [])
    if label.segment_id is not None:
        found = next((row for row in own if row["segment_id"] == label.segment_id), None)
        return SEGMENT_NOT_IN_RUN if found is None else (video_id, found)
    if label.span_us is not None:
        found = _segment_at(own, *label.span_us)
        return TIME_NOT_IN_RUN if found is None else (video_id, found)
    if has_synthesis and items[0]["media_type"] != "image":
        return video_id, None
    return (video_id, own[0]) if len(own) == 1 else NO_SINGLE_SEGMENT


def _segment_at(segments: Sequence[Row], start_us: int, end_us: int) -> Row | None:
    """Return the segment that contains a point, or that overlaps a span most and by at least half of either.

    The end of the last segment is in it.
    """
    if start_us == end_us:
        at_end = segments[-1] if segments and segments[-1]["end_us"] == start_us else None
        return next((row for row in segments if row["start_us"] <= start_us < row["end_us"]), at_end)
    best, most = None, 0
    for row in segments:
        overlap = min(end_us, row["end_us"]) - max(start_us, row["start_us"])
        shorter = min(end_us - start_us, row["end_us"] - row["start_us"])
        if overlap > most and 2 * overlap >= shorter:
            best, most = row, overlap
    return best


def _items_by_name(media: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in media:
        for name in names_of(row):
            found[name].append(row)
    return found


def _metadata(
    storage: Storage, run: CommittedRun, table: str, key: str, chosen: Sequence[str]
) -> dict[str, Mapping[str, Any]]:
    rows = read_rows(storage, run, table, "list_contains($chosen, video_id)", chosen=chosen)
    return {row[key]: json.loads(row["metadata"]) for row in rows}
