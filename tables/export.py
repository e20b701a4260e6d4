"""Export the rows of a query to a Parquet or CSV file, atomically."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from promptreel.schemas.errors import InvalidInput
from promptreel.tables.reader import bounded_select

EXPORT_FORMATS: Final = (".parquet", ".csv")
_BATCH_ROWS: Final = 10_000


def export_rows(connection: duckdb.DuckDBPyConnection, sql: str, path: Path, limit: int | None = None) -> int:
    """Write the rows of one SELECT to a file and return their number. The file extension selects the format.

    In CSV, lists and structs are JSON text, and null is an empty cell.

    Raises:
        InvalidInput: the extension is unknown, `sql` is not exactly one SELECT, DuckDB rejects it, or the file cannot be
            written.
    """
    if path.suffix.lower() not in EXPORT_FORMATS:
        raise InvalidInput(f"--out {path}: the extension must be one of {', '.join(EXPORT_FORMATS)}")
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        reader = connection.sql(bounded_select(connection, sql, limit)).to_arrow_reader(_BATCH_ROWS)
        write = _write_parquet if path.suffix.lower() == ".parquet" else _write_csv
        count = write(reader, partial)
        os.replace(partial, path)
    except duckdb.Error as error:
        raise InvalidInput(f"SQL: {error}") from error
    except OSError as error:
        raise InvalidInput(f"--out {path}: cannot be written ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)
    return count


def _write_parquet(reader: pa.RecordBatchReader, path: Path) -> int:
    count = 0
    with pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _write_csv(reader: pa.RecordBatchReader, path: Path) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_MINIMAL)
        writer.writerow(reader.schema.names)
        for batch in reader:
            writer.writerows(_cells(batch))
            count += batch.num_rows
    return count


def _cells(batch: pa.RecordBatch) -> Iterator[list[Any]]:
    for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
        yield [
            json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict | tuple) else value
            for value in row
        ]
