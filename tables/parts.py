"""Parquet part files: written to a work folder, synced, then renamed. A part is live once a manifest lists it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from promptreel.schemas.arrow import to_table
from promptreel.tables import layout
from promptreel.tables.storage import Storage, storage_errors
from promptreel.tables.table_schemas import with_dimension

# A compromise: a page of one item should read one row group, but each row group adds to the footer (about 10 KB for 40
# columns).
ROWS_PER_GROUP = 1000


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of one table.

    Attributes:
        file: path relative to the run folder.
        shard: shard number of its items, see `promptreel.tables.shards`.
        min_video_id, max_video_id: range of video ids in the part; both empty if it has no rows.
    """

    table: str
    file: str
    rows: int
    bytes: int
    min_video_id: str
    max_video_id: str
    shard: int = 0

    @property
    def name(self) -> str:
        """The name without its folder; unique within the run."""
        return PurePosixPath(self.file).name


class PartWriter:
    """Writes the rows of one table in row groups of at most ROWS_PER_GROUP."""

    def __init__(self, table: str, schema: pa.Schema, path: Path) -> None:
        self.table = table
        self.rows = 0
        self._schema = schema
        self._pending: list[Mapping[str, Any]] = []
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", write_statistics=True)
        self._ids: tuple[str, str] = ("", "")
        self.path = path

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row. Rows of the same item must be consecutive and in order."""
        video_id = row["video_id"]
        self._ids = (min(self._ids[0] or video_id, video_id), max(self._ids[1], video_id))
        self._pending.append(row)
        self.rows += 1
        if len(self._pending) >= ROWS_PER_GROUP:
            self._flush()

    def close(self) -> tuple[str, str]:
        """Close the file and return its smallest and largest video id."""
        self._flush()
        self._writer.close()
        return self._ids

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(to_table(self._schema, self._pending))
            self._pending = []


class ShardWriter:
    """Writes one part for each table that gets rows, and commits them together."""

    def __init__(
        self, storage: Storage, run_id: str, shard: int, schemas: Mapping[str, pa.Schema], folder: Path
    ) -> None:
        self._storage = storage
        self._run_id = run_id
        self._shard = shard
        self._schemas = schemas
        self._folder = folder
        self._writers: dict[str, PartWriter] = {}

    def write(self, table: str, row: Mapping[str, Any]) -> None:
        """Add a row to a table."""
        path = self._folder / f"{table}.parquet"
        with storage_errors("write", path):
            if table not in self._writers:
                schema = with_dimension(self._schemas[table], row.get("dimension", 0))
                self._writers[table] = PartWriter(table, schema, path)
            self._writers[table].write(row)

    def commit(self) -> list[Part]:
        """Commit every part durably. File names are unique, so committing a shard twice overwrites nothing."""
        parts = []
        for table, writer in sorted(self._writers.items()):
            with storage_errors("write", writer.path):
                first, last = writer.close()
            name = f"parts/{table}/part-{self._shard:05d}-{uuid.uuid4().hex[:12]}.parquet"
            size = writer.path.stat().st_size
            self._storage.commit_file(writer.path, f"{layout.run_folder(self._run_id)}/{name}")
            parts.append(Part(table, name, writer.rows, size, first, last, self._shard))
        return parts


@contextmanager
def shard_writer(storage: Storage, run_id: str, shard: int, schemas: Mapping[str, pa.Schema]) -> Iterator[ShardWriter]:
    """A shard writer in a temporary work folder."""
    with storage.work_folder() as folder:
        yield ShardWriter(storage, run_id, shard, schemas, folder)
