"""The engine of filter search: run conditions as DuckDB SQL over the committed parts of runs, under a deadline."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import duckdb

from promptreel.api.db.models import RunRecord
from promptreel.api.runs.run_tables import RunTables
from promptreel.api.search.filter_sql import (
    FilterField,
    compile_filter,
    filter_fields,
)
from promptreel.api.web.errors import ApiError
from promptreel.schemas.prompt import Prompt, prompt_from_dict
from promptreel.schemas.wire.filter import conditions_of
from promptreel.tables.manifest import Manifest
from promptreel.tables.part_files import find_damage, part_paths
from promptreel.tables.shards import shard_of
from promptreel.tables.storage import Storage
from promptreel.tables.table_schemas import FIELDS

TIMEOUT_S: Final = 10.0
_FIRST_BATCH_ROWS: Final = 50_000
_BATCH_GROWTH: Final = 4
_MEMORY_LIMIT: Final = "2GB"
_INTERRUPT_INTERVAL_S: Final = 0.1
_NO_TRANSCRIPTS: Final = "(SELECT NULL::VARCHAR AS segment_id, NULL::VARCHAR AS text WHERE false)"


@dataclass(frozen=True)
class ScopedRun:
    """A run in the scope of a filter.

    Attributes:
        items: ids of the media to search; None for all media of the run.
    """

    run: RunRecord
    tables: RunTables
    items: frozenset[str] | None

    @cached_property
    def prompt(self) -> Prompt:
        return prompt_from_dict(self.run.prompt)


@dataclass(frozen=True, slots=True)
class RowPosition:
    """A row of a run's results: the number of its part file, and its number in this file."""

    part: int
    row: int


@dataclass(frozen=True, slots=True)
class Found:
    """A segment that meets the conditions, and the position of its result."""

    position: RowPosition
    video_id: str
    segment_id: str
    start_us: int


class FilterEngine:
    """A DuckDB instance that reads committed Parquet files; each request uses its own cursor.

    Args:
        timeout_s: time limit of a request.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._connection = _connect()

    def find(
        self, scoped: ScopedRun, nodes: Sequence[Any], after: RowPosition | None, limit: int, deadline: float = math.inf
    ) -> list[Found]:
        """Return the first `limit` segments of a run after a position that meet all conditions.

        Args:
            deadline: `time.monotonic()` value at which the search is stopped.

        Raises:
            FilterMismatch: the run's prompt has no such field, or its type does not fit the condition.
            RunDamaged: a part of the run is missing or damaged.
            ApiError: 422 at the deadline.
        """
        if scoped.items == frozenset() or not scoped.tables.manifest.parts_of("results"):
            return []
        try:
            with self._connection.cursor() as cursor, _interrupted_at(deadline, cursor):
                found = self._find(cursor, scoped, nodes, after, limit)
        except duckdb.InterruptException as error:
            raise _timeout(self.timeout_s) from error
        except (duckdb.InternalException, duckdb.FatalException):  # the database accepts no query after such an error
            self._connection = _connect()
            raise
        except duckdb.Error as error:
            tables = ("results", "transcripts")
            raise find_damage(scoped.tables.storage, scoped.tables.manifest, tables) or error from error
        if time.monotonic() >= deadline:
            raise _timeout(self.timeout_s)
        return found

    def _find(
        self,
        cursor: duckdb.DuckDBPyConnection,
        scoped: ScopedRun,
        nodes: Sequence[Any],
        after: RowPosition | None,
        limit: int,
    ) -> list[Found]:
        manifest = scoped.tables.manifest
        fields = self.fields(cursor, scoped)
        transcripts = table_files(scoped.tables.storage, manifest, "transcripts")
        names = {condition.field for condition in conditions_of(list(nodes))}
        reads_transcripts = bool(transcripts) and "transcription" in names
        source = "read_parquet($transcripts)" if reads_transcripts else _NO_TRANSCRIPTS
        where, parameters = compile_filter(nodes, fields, source)
        if reads_transcripts:
            parameters["transcripts"] = transcripts
        if scoped.items is not None:
            where += " AND video_id IN (SELECT unnest($items))"
            parameters["items"] = sorted(scoped.items)
        found: list[Found] = []
        for batch in _batches(scoped, [part.rows for part in manifest.parts_of("results")], after):
            files = table_files(scoped.tables.storage, manifest, "results", batch)
            bounds = {"files": files, "after": after.row if after and after.part == batch[0] else -1}
            rows = cursor.execute(
                "SELECT file_index, file_row_number, video_id, segment_id, start_us "
                "FROM read_parquet($files, file_row_number = true) "
                f"WHERE (file_index > 0 OR file_row_number > $after) AND {where} "
                f"ORDER BY file_index, file_row_number LIMIT {limit - len(found)}",
                {**parameters, **bounds},
            ).fetchall()
            found += [Found(RowPosition(batch[at], row), *rest) for at, row, *rest in rows]
            if len(found) == limit:
                break
        return found

    def fields(self, cursor: duckdb.DuckDBPyConnection, scoped: ScopedRun) -> dict[str, FilterField]:
        """Return the fields of a run that conditions can use."""
        files = table_files(scoped.tables.storage, scoped.tables.manifest, "results", [0])
        if not files or not scoped.prompt.leaves:
            return filter_fields(scoped.prompt)
        cursor.execute(f"SELECT {FIELDS} FROM read_parquet($files) LIMIT 0", {"files": files})
        assert cursor.description is not None
        return filter_fields(scoped.prompt, cursor.description[0][1])

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def _connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})
    connection.execute(f"SET memory_limit = '{_MEMORY_LIMIT}'")
    connection.execute("SET temp_directory = ''")
    return connection


@contextmanager
def _interrupted_at(deadline: float, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Interrupt everything that a cursor executes from the deadline on."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(max(0.0, deadline - time.monotonic()) or _INTERRUPT_INTERVAL_S):
            cursor.interrupt()  # repeatedly: an interrupt between two queries has no effect

    if deadline == math.inf:
        yield
        return
    watcher = threading.Thread(target=watch, name="filter-deadline", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _timeout(timeout_s: float) -> ApiError:
    message = f"The filter was stopped after {timeout_s:g} s; select fewer runs with run_ids, or use fewer conditions."
    return ApiError(422, "filter_timeout", message, {"timeout_seconds": timeout_s})


def _batches(scoped: ScopedRun, rows: Sequence[int], after: RowPosition | None) -> Iterator[list[int]]:
    """Yield batches of part file numbers, of growing size, starting at a position.

    Files that contain none of the items are skipped.
    """
    manifest = scoped.tables.manifest
    shards = None if scoped.items is None else {shard_of(video_id, manifest.shards) for video_id in scoped.items}
    parts = manifest.parts_of("results")
    first = after.part if after is not None else 0
    selected = [at for at in range(first, len(parts)) if shards is None or parts[at].shard in shards or at == first]
    size, batch, row_count = _FIRST_BATCH_ROWS, [], 0
    for at in selected:
        batch.append(at)
        row_count += rows[at]
        if row_count >= size:
            yield batch
            size, batch, row_count = size * _BATCH_GROWTH, [], 0
    if batch:
        yield batch


def table_files(storage: Storage, manifest: Manifest, table: str, numbers: Sequence[int] | None = None) -> list[str]:
    """Return the paths of a table's part files; `numbers` selects some of them."""
    parts = manifest.parts_of(table)
    selected = parts if numbers is None else [parts[at] for at in numbers if at < len(parts)]
    return [str(path) for path in part_paths(storage, manifest.run_id, selected)]
