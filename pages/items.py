"""The items of a run with their segments, in parts of bounded length, so that no page depends on the length of a film."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from promptreel.pages.answers import ShownAnswer, shorten, shown_answer
from promptreel.pages.run_tables import CommittedTables
from promptreel.pages.segments import (
    Row,
    SegmentCard,
    ShownFailure,
    segment_cards,
    segment_rows,
    shown_failures,
    shown_notes,
)
from promptreel.pages.timeline import Span, TimelineBlock, blocks, lane_count

SEGMENTS_PER_PART: Final = 50
_SEGMENTS_PER_QUERY: Final = 500
_ITEMS_PER_QUERY: Final = 200
_MAX_NAME_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class ShownSynthesis:
    """The synthesis of an item, and how many of its segments it covers."""

    answer: ShownAnswer
    covered_segments: int
    segment_count: int
    warning: str | None


@dataclass(frozen=True, slots=True)
class ItemPart:
    """An item with some of its segments, as a page shows them.

    Attributes:
        position: number of the item in the run, from 1.
        first, last: numbers of the segments of this part, from 1; last is 0 without segments.
        duration_us: None for an image, and for an item that could not be read.
        timeline: a block for each segment of this part.
        lanes: lanes of the timeline.
        synthesis, failures: only in the first part of an item; the failures are those of the item itself.
    """

    position: int
    name: str
    media_type: str | None
    status: str
    duration_us: int | None
    size: str | None
    segment_count: int
    failed_segments: int
    first: int
    last: int
    segments: tuple[SegmentCard, ...]
    timeline: tuple[TimelineBlock, ...]
    lanes: int
    warnings: tuple[str, ...]
    synthesis: ShownSynthesis | None
    failures: tuple[ShownFailure, ...]

    @property
    def is_first(self) -> bool:
        return self.first <= 1


def item_parts(tables: CommittedTables) -> Iterator[ItemPart]:
    """Yield the items of a run by name; a long item in several parts of at most `SEGMENTS_PER_PART` segments.

    Raises:
        RunDamaged: a part of a table is missing or truncated.
        StateExpired: the run is in progress, and a newer state has replaced this one.
    """
    items = tables.rows("SELECT video_id, name, segment_count FROM media ORDER BY name, video_id", ["media"])
    position = 1
    for group in _groups(items):
        yield from _parts_of_group(tables, group, position)
        position += len(group)


def _groups(items: Sequence[Row]) -> Iterator[list[Row]]:
    """Group items that are queried together. An item with more segments than a query returns is alone."""
    group: list[Row] = []
    segments = 0
    for item in items:
        is_full = segments + item["segment_count"] > _SEGMENTS_PER_QUERY or len(group) == _ITEMS_PER_QUERY
        if group and is_full:
            yield group
            group, segments = [], 0
        group.append(item)
        segments += item["segment_count"]
    if group:
        yield group


def _parts_of_group(tables: CommittedTables, group: Sequence[Row], position: int) -> Iterator[ItemPart]:
    ids = [item["video_id"] for item in group]
    rows = {row["video_id"]: row for row in _item_rows(tables, ids)}
    syntheses = {row["video_id"]: row for row in _synthesis_rows(tables, ids)}
    failures: dict[str, list[Row]] = {}
    for row in _failure_rows(tables, ids):
        failures.setdefault(row["video_id"], []).append(row)
    if len(group) == 1:
        yield from _parts_of_item(tables, rows[ids[0]], position, syntheses, failures)
        return
    segments = segment_rows(tables, ids)
    cards: dict[str, list[SegmentCard]] = {}
    for segment, card in zip(segments, segment_cards(tables, segments), strict=True):
        cards.setdefault(segment["video_id"], []).append(card)
    for index, video_id in enumerate(ids):
        found = cards.get(video_id, [])
        for first in range(0, max(1, len(found)), SEGMENTS_PER_PART):
            shown = found[first : first + SEGMENTS_PER_PART]
            yield _part(rows[video_id], position + index, first, shown, syntheses, failures)


def _parts_of_item(
    tables: CommittedTables, item: Row, position: int, syntheses: dict[str, Row], failures: dict[str, list[Row]]
) -> Iterator[ItemPart]:
    """Yield the parts of one item, however many segments it has."""
    offset = 0
    while True:
        segments = segment_rows(tables, [item["video_id"]], _SEGMENTS_PER_QUERY, offset)
        cards = segment_cards(tables, segments)
        if not cards and offset:
            return
        for first in range(0, max(1, len(cards)), SEGMENTS_PER_PART):
            shown = cards[first : first + SEGMENTS_PER_PART]
            yield _part(item, position, offset + first, shown, syntheses, failures)
        if len(cards) < _SEGMENTS_PER_QUERY:
            return
        offset += _SEGMENTS_PER_QUERY


def _part(
    item: Row,
    position: int,
    offset: int,
    segments: Sequence[SegmentCard],
    syntheses: dict[str, Row],
    failures: dict[str, list[Row]],
) -> ItemPart:
    synthesis = syntheses.get(item["video_id"]) if offset == 0 else None
    duration_us = item["duration_us"]
    is_timed = bool(segments) and item["media_type"] != "image"
    spans = [Span(segment.start_us, segment.end_us) for segment in segments] if is_timed else []
    timeline = blocks(spans, duration_us or 0)
    return ItemPart(
        position=position,
        name=shorten(item["name"], _MAX_NAME_CHARS),
        media_type=item["media_type"],
        status=item["status"],
        duration_us=duration_us,
        size=f"{item['width']} × {item['height']}" if item["width"] and item["height"] else None,
        segment_count=item["segment_count"],
        failed_segments=item["failed_segments"],
        first=offset + 1,
        last=offset + len(segments),
        segments=tuple(segments),
        timeline=timeline,
        lanes=lane_count(block.lane for block in timeline),
        warnings=shown_notes(item["warnings"]) if offset == 0 else (),
        synthesis=None if synthesis is None else shown_synthesis(synthesis),
        failures=shown_failures(failures.get(item["video_id"], ())) if offset == 0 else (),
    )


def shown_synthesis(row: Row) -> ShownSynthesis:
    """Build the synthesis of a row of `video_results`."""
    warning = row["warning"]
    return ShownSynthesis(
        shown_answer(row["metadata"]),
        row["covered_segments"],
        row["segment_count"],
        None if warning is None else shorten(warning, _MAX_NAME_CHARS),
    )


def _item_rows(tables: CommittedTables, ids: Sequence[str]) -> list[Row]:
    sql = """
        SELECT video_id, name, media_type, status, duration_us, width, height, segment_count, failed_segments, warnings
        FROM media WHERE list_contains($ids, video_id)"""
    return tables.without_run_warnings(tables.rows(sql, ["media"], ids=list(ids)))


def _synthesis_rows(tables: CommittedTables, ids: Sequence[str]) -> list[Row]:
    sql = """
        SELECT video_id, metadata, covered_segments, segment_count, warning
        FROM video_results WHERE list_contains($ids, video_id)"""
    return tables.rows(sql, ["video_results"], ids=list(ids))


def _failure_rows(tables: CommittedTables, ids: Sequence[str]) -> list[Row]:
    sql = """
        SELECT video_id, operation, code, message FROM failures
        WHERE segment_id IS NULL AND list_contains($ids, video_id) ORDER BY operation"""
    return tables.rows(sql, ["failures"], ids=list(ids))
