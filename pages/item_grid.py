"""The items of a run as tiles: a picture, the outcome, and a small timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from promptreel.pages.answers import shorten
from promptreel.pages.run_tables import CommittedTables
from promptreel.pages.timeline import UNITS

TILES_PER_PAGE: Final = 60
ITEM_STATUSES: Final = ("completed", "partial", "failed", "cancelled", "processing", "pending")
_BINS: Final = 60
_MAX_NAME_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class TileBlock:
    """Neighbouring segments on the timeline of a tile: left edge and width in `UNITS`, and the worst of their statuses."""

    x: float
    width: float
    status: str


@dataclass(frozen=True, slots=True)
class ItemTile:
    """An item of a run.

    Attributes:
        frame_time_us, frame_file: the first sampled frame in its second half, or else the first one; None without frames.
    """

    video_id: str
    name: str
    media_type: str | None
    status: str
    duration_us: int | None
    segment_count: int
    failed_segments: int
    frame_time_us: int | None
    frame_file: str | None
    timeline: tuple[TileBlock, ...]


@dataclass(frozen=True, slots=True)
class TilePage:
    """A page of tiles, and the number of all items that match."""

    tiles: tuple[ItemTile, ...]
    total: int


def item_tiles(tables: CommittedTables, number: int, status: str = "", text: str = "") -> TilePage:
    """Return a page of the items of a run by name.

    Args:
        number: of the page, from 1.
        status: only items with this status, if not empty.
        text: only items whose name contains this text, ignoring case.

    Raises:
        RunDamaged: a part of a table is missing or truncated.
        StateExpired: the run is in progress, and a newer state has replaced this one.
    """
    sql = f"""
        SELECT video_id, name, media_type, status, duration_us, segment_count, failed_segments, count(*) OVER () AS total
        FROM media WHERE ($status = '' OR status = $status) AND contains(lower(name), lower($text))
        ORDER BY name, video_id LIMIT {TILES_PER_PAGE} OFFSET {(number - 1) * TILES_PER_PAGE}"""
    items = tables.rows(sql, ["media"], status=status, text=text)
    ids = [item["video_id"] for item in items]
    frames = {row["video_id"]: row for row in _frame_rows(tables, ids)}
    blocks: dict[str, list[TileBlock]] = {}
    for row in _block_rows(tables, [item["video_id"] for item in items if item["media_type"] != "image"]):
        blocks.setdefault(row["video_id"], []).append(_block(row))
    tiles = tuple(_tile(item, frames.get(item["video_id"]), blocks.get(item["video_id"], ())) for item in items)
    return TilePage(tiles, items[0]["total"] if items else 0)


def _tile(item: Mapping[str, Any], frame: Mapping[str, Any] | None, blocks: Sequence[TileBlock]) -> ItemTile:
    return ItemTile(
        video_id=item["video_id"],
        name=shorten(item["name"], _MAX_NAME_CHARS),
        media_type=item["media_type"],
        status=item["status"],
        duration_us=item["duration_us"],
        segment_count=item["segment_count"],
        failed_segments=item["failed_segments"],
        frame_time_us=None if frame is None else frame["time_us"],
        frame_file=None if frame is None else frame["file"],
        timeline=tuple(blocks),
    )


def _block(row: Mapping[str, Any]) -> TileBlock:
    length = row["length_us"]
    x = round(row["start_us"] / length * UNITS, 1)
    width = round((row["end_us"] - row["start_us"]) / length * UNITS, 1)
    return TileBlock(x, min(max(width, 1.0), UNITS - x), row["status"])


def _frame_rows(tables: CommittedTables, ids: Sequence[str]) -> list[dict[str, Any]]:
    sql = """
        SELECT f.video_id, coalesce(
                min(f.time_us) FILTER (f.time_us >= coalesce(m.duration_us, 0) // 2), min(f.time_us)) AS time_us,
            coalesce(
                arg_min(f.file, f.time_us) FILTER (f.time_us >= coalesce(m.duration_us, 0) // 2),
                arg_min(f.file, f.time_us)) AS file
        FROM frames AS f JOIN media AS m ON m.video_id = f.video_id
        WHERE list_contains($ids, f.video_id) AND list_contains($ids, m.video_id) AND m.media_type <> 'audio'
        GROUP BY f.video_id"""
    return tables.rows(sql, ["frames", "media"], ids=list(ids)) if ids else []


def _block_rows(tables: CommittedTables, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the segments of some items in at most `_BINS` groups each."""
    sql = f"""
        WITH timed AS (
            SELECT video_id, start_us, end_us, status, greatest(1, max(end_us) OVER (PARTITION BY video_id)) AS length_us
            FROM segments WHERE list_contains($ids, video_id))
        SELECT video_id, length_us, min(start_us) AS start_us, max(end_us) AS end_us,
            CASE WHEN bool_or(status = 'failed') THEN 'failed'
                WHEN bool_and(status = 'succeeded') THEN 'succeeded' ELSE min(status) END AS status
        FROM timed GROUP BY video_id, length_us, start_us * {_BINS} // length_us ORDER BY video_id, 3"""
    return tables.rows(sql, ["segments"], ids=list(ids)) if ids else []
