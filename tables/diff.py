"""Compare two runs over the same media, field by field for each segment.

Segments have the same ids if both runs segmented the item alike. Otherwise a segment of the first run is matched with the
segment of the second run that overlaps it most; `matched_by` reports this. Segments of either run without a match are
reported alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import duckdb

from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.field_paths import LeafField
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.tables.part_files import find_damage, part_paths
from promptreel.tables.readable_columns import VIDEO_NAME
from promptreel.tables.reader import CommittedRun
from promptreel.tables.run_views import RUN_VIEW_COLUMNS, quoted, run_view_sql, table_view_sql
from promptreel.tables.storage import Storage
from promptreel.tables.table_schemas import table_schemas

Change = Literal["added", "removed", "changed", "same"]
MatchedBy = Literal["id", "overlap", "none"]

CHANGES: Final[tuple[Change, ...]] = ("added", "removed", "changed", "same")
_FIRST_BATCH_SEGMENTS: Final = 2_000
_MAX_BATCH_SEGMENTS: Final = 100_000
_MEMORY_LIMIT: Final = "2GB"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of one segment in both runs.

    Attributes:
        video_name: file name of the item in the first run.
        segment_id: id in the first run; in the second if only the second has the segment.
        other_segment_id: id of the matched segment; None without a match.
        matched_by: "id", "overlap" (the runs segmented the item differently), or "none".
        start_us, end_us: of the segment, in microseconds of media time.
        field: canonical path.
        before, after: JSON values; None if the field is missing.
    """

    video_id: str
    video_name: str
    segment_id: str
    other_segment_id: str | None
    matched_by: MatchedBy
    start_us: int
    end_us: int
    field: str
    before: Any
    after: Any
    change: Change

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dict, with times in float seconds."""
        return {
            "video_id": self.video_id,
            "video_name": self.video_name,
            "segment_id": self.segment_id,
            "other_segment_id": self.other_segment_id,
            "matched_by": self.matched_by,
            "start_time": seconds_from_us(self.start_us),
            "end_time": seconds_from_us(self.end_us),
            "field": self.field,
            "before": self.before,
            "after": self.after,
            "change": self.change,
        }


@dataclass(frozen=True, slots=True)
class DiffCursor:
    """Position of a row; the next page starts after it."""

    video_id: str
    start_us: int
    segment_id: str
    field_number: int


@dataclass(frozen=True)
class DiffSummary:
    """Counts over all media that two runs share.

    Attributes:
        items: number of media in both runs.
        only_before, only_after: number of media in one run only; these are not compared.
        segments: number of segments by `matched_by`.
        changed_segments: number of segments in which a field differs.
        fields: by field in schema order, the number of added, removed, changed and same values.
    """

    items: int
    only_before: int
    only_after: int
    segments: dict[str, int]
    changed_segments: int
    fields: dict[str, dict[str, int]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "items": self.items,
            "only_before": self.only_before,
            "only_after": self.only_after,
            "segments": self.segments,
            "changed_segments": self.changed_segments,
            "fields": self.fields,
        }


class RunDiff:
    """A comparison of two committed runs.

    Raises:
        InvalidInput: the runs share no media, or their prompts have no named fields.
    """

    def __init__(self, storage: Storage, before: CommittedRun, after: CommittedRun) -> None:
        self._storage = storage
        self._runs = (before, after)
        self._connection = _connect()
        self._fields = _fields_of(before, after)
        if not self._fields:
            raise InvalidInput("the prompts of these runs have no named fields to compare")
        media = [self._media(run) for run in self._runs]
        counts = [{video_id: count for video_id, (_, count) in items.items()} for items in media]
        self._names = {video_id: name for video_id, (name, _) in media[0].items()}
        self._items = {video_id: count for video_id, count in sorted(counts[0].items()) if video_id in counts[1]}
        self._only = (len(counts[0]) - len(self._items), len(counts[1]) - len(self._items))
        if not self._items:
            raise InvalidInput(f"{before.run_id} and {after.run_id} share no media; choose runs over the same media")

    def rows(
        self,
        *,
        include_same: bool = False,
        field: str | None = None,
        change: Change | None = None,
        after: DiffCursor | None = None,
        limit: int | None = None,
    ) -> Iterator[tuple[DiffCursor, FieldChange]]:
        """Yield the fields of all segments of shared items with their positions, ordered by item and time.

        Args:
            include_same: include unchanged fields.
            field: only this field.
            change: only this kind of change; "same" lists unchanged fields.
            after: start after this position.
            limit: maximum number of rows.

        Raises:
            InvalidInput: neither prompt has the field.
        """
        remaining = limit
        order = "video_id, start_us, segment_id, field_number"
        filter_sql = self._filter_sql(include_same, field, change)
        for videos in self._batches(after.video_id if after is not None else ""):
            if remaining is not None and remaining <= 0:
                return
            parameters: dict[str, Any] = {}
            condition = filter_sql
            if after is not None:
                condition += " AND (video_id, start_us, segment_id, field_number) > ($video, $start, $segment, $field)"
                parameters = {
                    "video": after.video_id,
                    "start": after.start_us,
                    "segment": after.segment_id,
                    "field": after.field_number,
                }
            limit_sql = "" if remaining is None else f" LIMIT {remaining}"
            statement = f"SELECT * FROM compared WHERE {condition} ORDER BY {order}{limit_sql}"
            found = self._query(videos, statement, parameters)
            for row in found:
                yield self._row(row)
            if remaining is not None:
                remaining -= len(found)

    def summary(self) -> DiffSummary:
        """Count all changes."""
        fields = {leaf.path: dict.fromkeys(map(str, CHANGES), 0) for leaf in self._fields}
        segments = dict.fromkeys(("id", "overlap", "none"), 0)
        changed = 0
        paths = list(fields)
        by_field = "SELECT field_number, change, count(*) FROM compared GROUP BY ALL"
        by_segment = (
            "SELECT matched_by, count(*), count(*) FILTER (differs) FROM (SELECT p.matched_by, "
            "p.segment_id IN (SELECT segment_id FROM compared WHERE change <> 'same') AS differs FROM pairs p) "
            "GROUP BY ALL"
        )
        for videos in self._batches(""):
            for number, change, count in self._query(videos, by_field, {}):
                fields[paths[number]][change] += count
            for matched_by, count, differing in self._query(videos, by_segment, {}):
                segments[matched_by] += count
                changed += differing
        return DiffSummary(len(self._items), *self._only, segments, changed, fields)

    def _filter_sql(self, include_same: bool, field: str | None, change: Change | None) -> str:
        paths = [leaf.path for leaf in self._fields]
        if field is not None and field not in paths:
            raise InvalidInput(f"unknown field {field!r}; the fields are {', '.join(paths)}")
        kinds = f"change = '{change}'" if change is not None else "true" if include_same else "change <> 'same'"
        return kinds if field is None else f"{kinds} AND field_number = {paths.index(field)}"

    def _row(self, row: Sequence[Any]) -> tuple[DiffCursor, FieldChange]:
        video_id, segment_id, other_id, matched_by, start_us, end_us, number, before, after, change = row
        leaf = self._fields[number]
        position = DiffCursor(video_id, start_us, segment_id, number)
        field_change = FieldChange(
            video_id,
            self._names[video_id],
            segment_id,
            other_id,
            matched_by,
            start_us,
            end_us,
            leaf.path,
            _value(before),
            _value(after),
            change,
        )
        return position, field_change

    def _batches(self, first_video: str) -> Iterator[list[str]]:
        """Shared items from `first_video` on, in batches of growing size: a first page reads little, a full diff in bulk."""
        size, batch, batch_segments = _FIRST_BATCH_SEGMENTS, list[str](), 0
        for video_id, segments in self._items.items():
            if video_id < first_video:
                continue
            batch.append(video_id)
            batch_segments += segments
            if batch_segments >= size:
                yield batch
                size, batch, batch_segments = min(size * 4, _MAX_BATCH_SEGMENTS), [], 0
        if batch:
            yield batch

    def _media(self, run: CommittedRun) -> dict[str, tuple[str, int]]:
        """(name, number of segments) of each item, by id."""
        source, parameters = self._source(run, "media", "files")
        statement = f"SELECT video_id, name, segment_count FROM ({source})"
        rows = self._connection.execute(statement, parameters or None).fetchall()
        return {video_id: (name, count) for video_id, name, count in rows}

    def _query(self, videos: list[str], statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Query the relations `pairs` (matched segments) and `compared` (their fields) for some items."""
        parameters = {**parameters, "videos": videos, "first": videos[0], "last": videos[-1]}
        tables = {}
        for side, run in zip(("before", "after"), self._runs, strict=True):
            for table in ("segments", "results"):
                tables[side, table], files = self._source(run, table, f"{side}_{table}")
                parameters |= files
        sides = ", ".join(
            f"{side}_segments AS ({_segments_sql(tables[side, 'segments'])}), "
            f"{side}_values AS ({self._values_sql(run, tables[side, 'results'])})"
            for side, run in zip(("before", "after"), self._runs, strict=True)
        )
        each = ", ".join(
            f"{{'n': {number}, 'before': b.v{number}, 'after': a.v{number}}}" for number in range(len(self._fields))
        )
        text = f"WITH {sides}, {_PAIRS}, {_COMPARED.format(each=each)} {statement}"
        try:
            return self._connection.execute(text, parameters).fetchall()
        except duckdb.Error as error:
            damages = (find_damage(self._storage, run.manifest, ("segments", "results")) for run in self._runs)
            raise next((damage for damage in damages if damage is not None), error) from error

    def _source(self, run: CommittedRun, table: str, name: str) -> tuple[str, dict[str, Any]]:
        """SQL of one table of a run, and its query parameters (the part files)."""
        parts = run.manifest.parts_of(table)
        if not parts:
            return table_view_sql(table, (), table_schemas(run.prompt)[table]), {}
        files = [str(path) for path in part_paths(self._storage, run.run_id, parts)]
        return f"SELECT * FROM read_parquet(${name})", {name: files}

    def _values_sql(self, run: CommittedRun, source: str) -> str:
        """SELECT of the compared fields of each segment as JSON text; null if missing."""
        leaves = {leaf.path: (number, leaf) for number, leaf in enumerate(run.prompt.leaves)}
        columns = []
        for number, compared in enumerate(self._fields):
            if compared.path in leaves:
                at, leaf = leaves[compared.path]
                columns.append(f"{_json_text(f'c{at}', leaf, compared)} AS v{number}")
            else:
                columns.append(f"NULL::VARCHAR AS v{number}")
        names = ", ".join(quoted(name) for name in (*RUN_VIEW_COLUMNS, *(f"c{at}" for at in range(len(leaves)))))
        rows = run_view_sql(run.prompt, f"(SELECT *, NULL::VARCHAR AS {VIDEO_NAME} FROM ({source}) {_IN_BATCH})")
        return f"SELECT segment_id, {', '.join(columns)} FROM ({rows}) AS t({names})"


_IN_BATCH: Final = "WHERE video_id BETWEEN $first AND $last AND video_id IN (SELECT unnest($videos))"

_PAIRS: Final = """
by_id AS (
    SELECT video_id, segment_id, segment_id AS other_segment_id, 'id' AS matched_by, b.start_us, b.end_us
    FROM before_segments b JOIN after_segments a USING (video_id, segment_id)
),
before_left AS (SELECT * FROM before_segments WHERE segment_id NOT IN (SELECT segment_id FROM by_id)),
after_left AS (SELECT * FROM after_segments WHERE segment_id NOT IN (SELECT segment_id FROM by_id)),
by_overlap AS (
    SELECT b.video_id, b.segment_id, a.segment_id AS other_segment_id, 'overlap' AS matched_by, b.start_us, b.end_us
    FROM before_left b JOIN after_left a ON b.video_id = a.video_id
        AND ((b.start_us < a.end_us AND a.start_us < b.end_us)
            OR (b.start_us = a.start_us AND b.end_us = a.end_us))
    QUALIFY row_number() OVER (
        PARTITION BY b.segment_id
        ORDER BY least(b.end_us, a.end_us) - greatest(b.start_us, a.start_us) DESC, a.start_us, a.segment_id
    ) = 1
),
pairs AS (
    SELECT * FROM by_id
    UNION ALL SELECT * FROM by_overlap
    UNION ALL
    SELECT video_id, segment_id, NULL, 'none', start_us, end_us FROM before_left
    WHERE segment_id NOT IN (SELECT segment_id FROM by_overlap)
    UNION ALL
    SELECT video_id, segment_id, segment_id, 'none', start_us, end_us FROM after_left
    WHERE segment_id NOT IN (SELECT other_segment_id FROM by_overlap)
)"""

_COMPARED: Final = """
compared AS (
    SELECT video_id, segment_id, CASE WHEN matched_by <> 'none' THEN other_segment_id END AS other_segment_id, matched_by,
        start_us, end_us, value.n AS field_number, value.before AS before, value.after AS after,
        CASE
            WHEN value.before IS NULL THEN 'added'
            WHEN value.after IS NULL THEN 'removed'
            WHEN value.before = value.after THEN 'same'
            ELSE 'changed'
        END AS change
    FROM (
        SELECT p.*, unnest([{each}]) AS value
        FROM pairs p
        LEFT JOIN before_values b ON b.segment_id = p.segment_id
        LEFT JOIN after_values a ON a.segment_id = p.other_segment_id
    )
    WHERE value.before IS NOT NULL OR value.after IS NOT NULL
)"""


def _segments_sql(source: str) -> str:
    return f"SELECT video_id, segment_id, start_us, end_us FROM ({source}) {_IN_BATCH}"


def _fields_of(before: CommittedRun, after: CommittedRun) -> list[LeafField]:
    """Leaf fields of both prompts, each path once. An integer in one and a number in the other compare as numbers."""
    merged = {leaf.path: leaf for leaf in before.prompt.leaves}
    for leaf in after.prompt.leaves:
        if leaf.path not in merged or leaf.type == "number":
            merged[leaf.path] = leaf
    return list(merged.values())


def _json_text(column: str, leaf: LeafField, compared: LeafField) -> str:
    """SQL of a column as JSON text, in which equal values are equal text."""
    if leaf.type == "json" and leaf.list_depth == 0:
        return column
    if leaf.type == "integer" and compared.type == "number":
        column = f"{column}::DOUBLE{'[]' * leaf.list_depth}"
    return f"to_json({column})::VARCHAR"


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})
    connection.execute(f"SET memory_limit = '{_MEMORY_LIMIT}'")
    connection.execute("SET temp_directory = ''")
    return connection
