"""`promptreel diff`: compare two runs over the same media."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
import pyarrow as pa
import pyarrow.parquet as pq

from promptreel.cli.options import data_dir_option, json_option, open_data_dir
from promptreel.cli.output import print_json, print_note, print_table
from promptreel.schemas.errors import InvalidInput, StorageError
from promptreel.schemas.mediatime import format_timecode
from promptreel.tables.diff import DiffSummary, FieldChange, RunDiff
from promptreel.tables.item_names import shown_names
from promptreel.tables.reader import committed_run, read_rows

_DEFAULT_ROWS: Final = 50
_BATCH_ROWS: Final = 10_000
_MATCHED: Final = {"id": "by id", "overlap": "by overlap", "none": "in one run only"}
_TEXT_COLUMNS: Final = (
    "video_id",
    "video_name",
    "segment_id",
    "other_segment_id",
    "matched_by",
    "field",
    "before",
    "after",
    "change",
)
_SCHEMA: Final = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in _TEXT_COLUMNS[:5]),
        pa.field("start_time", pa.float64()),
        pa.field("end_time", pa.float64()),
        *(pa.field(name, pa.string()) for name in _TEXT_COLUMNS[5:]),
    ]
)


@click.command()
@click.argument("run_a")
@click.argument("run_b")
@click.option("--same", "include_same", is_flag=True, help="Include unchanged fields.")
@click.option(
    "--limit", type=click.IntRange(1), default=_DEFAULT_ROWS, show_default=True, help="Maximum number of rows to print."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write all rows to this .csv, .jsonl or .parquet file instead.",
)
@data_dir_option
@json_option
def diff(
    run_a: str, run_b: str, include_same: bool, limit: int, out: Path | None, data_dir: str, as_json: bool
) -> None:
    """Compare RUN_A and RUN_B field by field, for each segment of the media in both.

    Segments are matched by ID; if the runs segment an item differently, by overlapping time.
    """
    if out is not None and out.suffix.lower() not in _WRITERS:
        raise InvalidInput(f"--out {out}: the extension must be one of {', '.join(_WRITERS)}")
    storage = open_data_dir(data_dir)
    before = committed_run(storage, run_a)
    compared = RunDiff(storage, before, committed_run(storage, run_b))
    summary = compared.summary()
    rows = (change for _, change in compared.rows(include_same=include_same, limit=None if out else limit))
    if out is not None:
        count = _write(rows, out)
        if as_json:
            print_json({"summary": summary.to_dict(), "file": str(out), "rows": count})
        else:
            _print_summary(summary, run_a, run_b)
            click.echo(f"{count} rows in {out}")
        return
    if as_json:
        print_json({"summary": summary.to_dict(), "changes": [change.to_dict() for change in rows]})
        return
    _print_summary(summary, run_a, run_b)
    names = shown_names(read_rows(storage, before, "media"))
    columns = ["media", "time", "field", "change", "before", "after"]
    print_table(f"{run_a} → {run_b}", columns, (_cells(change, names) for change in rows))


def _print_summary(summary: DiffSummary, run_a: str, run_b: str) -> None:
    columns = ["field", "added", "removed", "changed", "same"]
    fields = ([path, *counts.values()] for path, counts in summary.fields.items())
    print_table("Fields", columns, fields, err=True)
    matched = ", ".join(f"{count} {_MATCHED[how]}" for how, count in summary.segments.items() if count)
    print_note(f"{summary.changed_segments} of {sum(summary.segments.values())} segments differ; matched: {matched}")
    for count, run_id in ((summary.only_before, run_a), (summary.only_after, run_b)):
        if count:
            print_note(f"{count} media only in {run_id} are not compared")


def _cells(change: FieldChange, names: Mapping[str, str]) -> list[Any]:
    times = f"{format_timecode(change.start_us)}–{format_timecode(change.end_us)}"
    values = ["" if value is None else _plain(value) for value in (change.before, change.after)]
    how = "" if change.matched_by == "id" else f" ({_MATCHED[change.matched_by]})"
    return [names[change.video_id], times + how, change.field, change.change, *values]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _write(rows: Iterable[FieldChange], path: Path) -> int:
    """Write all rows atomically and return their number. In CSV and Parquet, values are JSON text."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        count = _WRITERS[path.suffix.lower()](rows, partial)
        os.replace(partial, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return count


def _flat(change: FieldChange) -> dict[str, Any]:
    row = change.to_dict()
    values = {
        side: None if row[side] is None else json.dumps(row[side], ensure_ascii=False) for side in ("before", "after")
    }
    return {**row, **values}


def _write_csv(rows: Iterable[FieldChange], path: Path) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _SCHEMA.names)
        writer.writeheader()
        for count, change in enumerate(rows, 1):  # noqa: B007
            writer.writerow(_flat(change))
    return count


def _write_jsonl(rows: Iterable[FieldChange], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, change in enumerate(rows, 1):  # noqa: B007
            file.write(json.dumps(change.to_dict(), ensure_ascii=False) + "\n")
    return count


def _write_parquet(rows: Iterable[FieldChange], path: Path) -> int:
    count = 0
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for batch in _batches(rows):
            writer.write_table(pa.Table.from_pylist([_flat(change) for change in batch], _SCHEMA))
            count += len(batch)
    return count


def _batches(rows: Iterable[FieldChange]) -> Iterator[list[FieldChange]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, _BATCH_ROWS)):
        yield batch


_WRITERS: Final = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
