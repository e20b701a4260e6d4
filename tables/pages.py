"""Pages of one item's rows. Only row groups that can contain them are read, so the cost does not grow with the run.

Parts are sorted by item and time. The file footer has the minimum and maximum video_id and start_us (of frames, time_us)
of each row group, which select the row groups to read.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

_MAX_OPEN_FILES = 256  # per process
_TIME_COLUMNS = ("start_us", "time_us")  # a table is sorted by the first of these that it has


@dataclass(frozen=True, slots=True)
class _Group:
    """A row group and the range of its rows; times are None if the table has no times or a row lacks one."""

    number: int
    first_id: str
    last_id: str
    first_us: int | None
    last_us: int | None


@dataclass(frozen=True)
class _OpenPart:
    file: pq.ParquetFile
    groups: tuple[_Group, ...]
    columns: frozenset[str]
    time_column: str | None
    lock: threading.Lock  # ParquetFile is not thread-safe


class ItemRows:
    """Rows of one table in the parts of one shard.

    Args:
        paths: local part files; they must be immutable, because open files are cached by path.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    def video_ids(self) -> set[str]:
        """Ids of the items that have rows."""
        found: set[str] = set()
        for path in self._paths:
            part = _open(path)
            with part.lock:
                found.update(part.file.read(columns=["video_id"])["video_id"].to_pylist())
        return found

    def of(
        self,
        video_id: str,
        *,
        first_us: int | None = None,
        last_us: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the item's rows in order, optionally only those that start in [first_us, last_us].

        Row groups are read lazily. Rows without a time match every range.
        """
        for path in self._paths:
            part = _open(path)
            selected = None if columns is None else [name for name in columns if name in part.columns]
            for group in part.groups:
                if _may_contain(group, video_id, first_us, last_us):
                    yield from _rows(part, group, video_id, first_us, last_us, selected)


def _rows(
    part: _OpenPart,
    group: _Group,
    video_id: str,
    first_us: int | None,
    last_us: int | None,
    columns: Sequence[str] | None,
) -> Iterator[dict[str, Any]]:
    with part.lock:
        table = part.file.read_row_group(group.number, columns=columns, use_threads=False)  # too small to share
    matches = pc.equal(table["video_id"], video_id)
    if part.time_column is not None:
        times = table[part.time_column]
        for is_within, bound in ((pc.greater_equal, first_us), (pc.less_equal, last_us)):
            if bound is not None:
                matches = pc.and_(matches, pc.fill_null(is_within(times, bound), True))
    yield from table.filter(matches).to_pylist()


def _may_contain(group: _Group, video_id: str, first_us: int | None, last_us: int | None) -> bool:
    if not group.first_id <= video_id <= group.last_id:
        return False
    if group.first_id != group.last_id or group.first_us is None or group.last_us is None:
        return True  # the range covers several items
    return (first_us is None or group.last_us >= first_us) and (last_us is None or group.first_us <= last_us)


@functools.lru_cache(maxsize=_MAX_OPEN_FILES)
def _open(path: Path) -> _OpenPart:
    file = pq.ParquetFile(path, memory_map=True)
    names = {file.metadata.schema.column(at).path: at for at in range(file.metadata.num_columns)}
    time_column = next((name for name in _TIME_COLUMNS if name in names), None)
    groups = tuple(_group(file, number, names, time_column) for number in range(file.metadata.num_row_groups))
    return _OpenPart(file, groups, frozenset(file.schema_arrow.names), time_column, threading.Lock())


def _group(file: pq.ParquetFile, number: int, names: dict[str, int], time_column: str | None) -> _Group:
    group = file.metadata.row_group(number)
    ids = group.column(names["video_id"]).statistics
    times = group.column(names[time_column]).statistics if time_column is not None else None
    has_times = times is not None and times.has_min_max and not times.null_count
    return _Group(
        number, ids.min, ids.max, times.min if has_times and times else None, times.max if has_times and times else None
    )
