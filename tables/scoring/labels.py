"""Read labelled values from a CSV, JSON lines or Parquet file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.field_paths import LeafField, values_at
from promptreel.schemas.mediatime import us_from_seconds

ITEM_COLUMNS: Final = ("video_id", "item", "media", "name")  # the first one in the file names the item
POSITION_COLUMNS: Final = ("segment_id", "time", "start_time", "end_time")
_TRUE: Final = frozenset({"true", "yes", "1"})
_FALSE: Final = frozenset({"false", "no", "0"})


@dataclass(frozen=True)
class Label:
    """One row of a labelled file.

    Attributes:
        row: number of the row in the file, from 1, for messages.
        item: id, name or URI of the media item.
        segment_id: id of the segment; None if a time gives it, or if the label is for the item.
        span_us: start and end in microseconds of media time; equal for a point in time; None without a time.
        values: the other columns, as read.
        is_text: the values are text of CSV cells.
    """

    row: int
    item: str
    segment_id: str | None
    span_us: tuple[int, int] | None
    values: Mapping[str, Any]
    is_text: bool = False

    def expected(self, leaf: LeafField) -> tuple[bool, Any]:
        """Return (whether the label has a value for a field, the value).

        A value of None means that no answer is expected. A field may be a column named by its path, or nested in objects.

        Raises:
            InvalidInput: the text of a CSV cell is not a value of the field's type.
        """
        if leaf.path in self.values:
            value = self.values[leaf.path]
            if self.is_text:
                return self._parsed(leaf, str(value))
            is_list = leaf.list_depth > 0 and value is not None
            return True, _flat(value) if is_list else value
        if self.is_text or leaf.path.partition(".")[0].removesuffix("[]") not in self.values:
            return False, None
        found = values_at(self.values, leaf.path)
        if leaf.list_depth:
            return True, found
        return True, found[0] if found else None

    def _parsed(self, leaf: LeafField, text: str) -> tuple[bool, Any]:
        text = text.strip()
        if not text:
            return False, None
        if text == "null":
            return True, None
        try:
            if leaf.list_depth:
                parts = _flat(json.loads(text)) if text.startswith("[") else text.split(";")
                return True, [_scalar(leaf.type, part) for part in parts if part not in (None, "")]
            return True, _scalar(leaf.type, text)
        except ValueError as error:
            raise InvalidInput(f"row {self.row}: {leaf.path} is {text!r}, which is not of type {leaf.type}") from error


def read_labels(path: Path) -> list[Label]:
    """Read all rows of a labelled file; its extension selects the format.

    Raises:
        InvalidInput: the file cannot be read, has no rows, lacks a column for the item, or a row is invalid.
    """
    readers = {".csv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(f"labels {path}: the extension must be one of {', '.join(readers)}")
    try:
        rows = list(reader(path))
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise InvalidInput(f"labels {path}: cannot be read ({error})") from error
    if not rows:
        raise InvalidInput(f"labels {path}: has no rows")
    try:
        return [_label(number, row, path.suffix.lower() == ".csv") for number, row in enumerate(rows, 1)]
    except InvalidInput as error:
        raise InvalidInput(f"labels {path}: {error}") from error


def field_columns(labels: list[Label]) -> list[str]:
    """The columns with values, in the order of their first appearance."""
    return list(dict.fromkeys(name for label in labels for name in label.values))


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file, strict=True):
            if None in row or None in row.values():
                raise ValueError(f"a row has more or fewer cells than the header: {list(row.values())}")
            yield row


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is not a JSON object")
            yield row


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    for row in pq.read_table(path).to_pylist():
        yield {name: value for name, value in row.items() if value is not None}  # null: not labelled


def _label(number: int, row: Mapping[str, Any], is_text: bool) -> Label:
    column = next((name for name in ITEM_COLUMNS if row.get(name) not in (None, "")), None)
    if column is None:
        raise InvalidInput(f"row {number} names no media item; add one of the columns {', '.join(ITEM_COLUMNS)}")
    times = {name: _seconds(number, name, row.get(name)) for name in POSITION_COLUMNS[1:]}
    start, end = times["start_time"], times["end_time"]
    if (start is None) != (end is None):
        raise InvalidInput(f"row {number} has only one of start_time and end_time; give both, or time")
    if start is not None and end is not None and end < start:
        raise InvalidInput(f"row {number}: end_time is {row['end_time']}, before start_time {row['start_time']}")
    point = times["time"]
    span = (start, end) if start is not None and end is not None else (point, point) if point is not None else None
    values = {name: value for name, value in row.items() if name not in (column, *POSITION_COLUMNS)}
    segment_id = row.get("segment_id")
    return Label(number, str(row[column]), str(segment_id) if segment_id else None, span, values, is_text)


def _seconds(number: int, name: str, value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        return us_from_seconds(float(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"row {number}: {name} is {value!r}; it must be a number of seconds") from error


def _scalar(kind: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    if kind == "boolean":
        if text.lower() not in _TRUE | _FALSE:
            raise ValueError(text)
        return text.lower() in _TRUE
    if kind in ("integer", "number"):
        return float(text)
    return json.loads(text) if kind == "json" else text


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    return [part for item in value for part in (_flat(item) if isinstance(item, list) else [item])]
