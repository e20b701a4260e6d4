"""Two runs side by side: one page of their differences, by segment and with its frame."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final
from urllib.parse import urlencode

from promptreel.api.runs.run_diff import ChangePage
from promptreel.api.runs.run_tables import RunTables
from promptreel.api.runs.thumbnails import Frame, Thumbnails, frames_of_segments
from promptreel.api.site.links import item_path
from promptreel.pages.answers import shorten
from promptreel.tables.diff import FieldChange

CHANGE_NAMES: Final = ("changed", "added", "removed", "same")
_MAX_VALUE_CHARS: Final = 1_000


@dataclass(frozen=True, slots=True)
class CompareQuery:
    """Which runs are compared, and which of their differences are shown; empty values do not restrict them."""

    base: str = ""
    other: str = ""
    field: str = ""
    change: str = ""
    cursor: str = ""

    def url(self, **changes: str) -> str:
        """Return the URL of this comparison with other values; without `cursor`, of its first page."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "cursor"} | changes
        return f"/compare?{urlencode({name: value for name, value in values.items() if value})}"


@dataclass(frozen=True, slots=True)
class ShownChange:
    """A field in both runs, as text; None if it is missing."""

    field: str
    change: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class ComparedSegment:
    """A segment with its differences.

    Attributes:
        before_path, after_path: the pages of the segment in both runs; None in a run without it.
        matched_by: "id", "overlap" or "none"; see `FieldChange`.
    """

    name: str
    start_us: int
    end_us: int
    matched_by: str
    before_path: str | None
    after_path: str | None
    thumbnail: str | None
    changes: tuple[ShownChange, ...]


def compared_segments(
    found: ChangePage, before: RunTables, after: RunTables, thumbnails: Thumbnails
) -> tuple[ComparedSegment, ...]:
    """Group one page of differences by segment, and add the frame of each.

    Raises:
        RunDamaged: the tables of a run cannot be read.
    """
    frames: dict[str, tuple[str, Frame]] = {}
    for video_id, rows in groupby(found.changes, key=lambda change: change.video_id):
        frames |= _frames(video_id, {change.segment_id: change.start_us for change in rows}, (before, after))
    segments = []
    for (video_id, segment_id), rows in groupby(found.changes, key=lambda change: (change.video_id, change.segment_id)):
        changes = list(rows)
        run_id, frame = frames.get(segment_id, (before.manifest.run_id, None))
        thumbnail = thumbnails.fields(run_id, video_id, frame)["thumbnail_uri"]
        segments.append(_segment(changes, before, after, thumbnail))
    return tuple(segments)


def _frames(video_id: str, starts: Mapping[str, int], runs: Iterable[RunTables]) -> dict[str, tuple[str, Frame]]:
    """Return (run, frame) of segments of one item by segment id, from the first run that has the segment.

    Args:
        starts: the starts of the segments, in microseconds, by id.
    """
    found: dict[str, tuple[str, Frame]] = {}
    span = min(starts.values()), max(starts.values())
    for tables in runs:
        missing = starts.keys() - found.keys()
        rows = [row for row in tables.rows("segments", video_id, *span) if row["segment_id"] in missing]
        frames = frames_of_segments(tables, video_id, rows)
        found |= {segment_id: (tables.manifest.run_id, frame) for segment_id, frame in frames.items()}
    return found


def _segment(
    changes: Sequence[FieldChange], before: RunTables, after: RunTables, thumbnail: str | None
) -> ComparedSegment:
    first = changes[0]
    is_only_after = first.matched_by == "none" and all(change.before is None for change in changes)
    before_id = None if is_only_after else first.segment_id
    after_id = first.segment_id if is_only_after else first.other_segment_id
    paths = [
        None if segment_id is None else item_path(tables.manifest.run_id, first.video_id, segment_id)
        for tables, segment_id in ((before, before_id), (after, after_id))
    ]
    return ComparedSegment(
        name=first.video_name,
        start_us=first.start_us,
        end_us=first.end_us,
        matched_by=first.matched_by,
        before_path=paths[0],
        after_path=paths[1],
        thumbnail=thumbnail,
        changes=tuple(
            ShownChange(change.field, change.change, _text(change.before), _text(change.after)) for change in changes
        ),
    )


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shorten(text, _MAX_VALUE_CHARS)
