"""All segments of an item in few bytes: which there are, and the blocks of its timeline."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from promptreel.api.runs.run_tables import RunTables, run_tables
from promptreel.pages.item_timeline import LinkedBlock, linked_blocks
from promptreel.tables.storage import Storage

_MAX_CACHED: Final = 16  # an item of 5,000 segments takes a quarter of a megabyte
_COLUMNS: Final = ("video_id", "segment_id", "start_us", "end_us", "status", "start_reason")


@dataclass(frozen=True)
class ItemOutline:
    """The segments of an item, in order of time.

    Attributes:
        segments: columns segment_id and start_us.
        timeline: of all segments; empty for an image.
    """

    segments: pa.Table
    timeline: tuple[LinkedBlock, ...]

    def slice(self, offset: int, length: int) -> list[dict[str, Any]]:
        """Return segment_id and start_us of some segments."""
        rows: list[dict[str, Any]] = self.segments.slice(offset, length).to_pylist()
        return rows

    def position_of(self, segment_id: str) -> int | None:
        """Return the number of a segment in the item, from 0; None if the item does not have it."""
        found: int = pc.index(self.segments["segment_id"], segment_id).as_py()
        return None if found < 0 else found


def item_outline(tables: RunTables, video_id: str, duration_us: int, is_image: bool) -> ItemOutline:
    """Return the outline of an item; that of a committed manifest is cached, because it never changes.

    Raises:
        RunDamaged, StateExpired: the tables cannot be read.
    """
    if tables.manifest.is_interim:
        return _outline(tables, video_id, duration_us, is_image)
    return _cached(tables.storage, tables.manifest.run_id, tables.manifest.number, video_id, duration_us, is_image)


@functools.lru_cache(maxsize=_MAX_CACHED)
def _cached(storage: Storage, run_id: str, number: int, video_id: str, duration_us: int, is_image: bool) -> ItemOutline:
    tables = run_tables(storage, run_id, number)
    assert tables is not None
    return _outline(tables, video_id, duration_us, is_image)


def _outline(tables: RunTables, video_id: str, duration_us: int, is_image: bool) -> ItemOutline:
    rows = list(tables.rows("segments", video_id, columns=_COLUMNS))
    columns = {name: [row[name] for row in rows] for name in ("segment_id", "start_us")}
    segments = pa.table(columns, schema=pa.schema([("segment_id", pa.string()), ("start_us", pa.int64())]))
    return ItemOutline(segments, () if is_image else linked_blocks(rows, duration_us))
