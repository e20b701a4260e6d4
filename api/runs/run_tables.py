"""Read the tables that one manifest of a run names."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from promptreel.api.web.errors import ApiError, invalid
from promptreel.schemas.errors import StateExpired
from promptreel.tables.interim import newest_readable, read_state, reading
from promptreel.tables.layout import table_folder
from promptreel.tables.manifest import Manifest, newest_manifest, read_manifest
from promptreel.tables.pages import ItemRows
from promptreel.tables.part_files import damage_in, part_paths
from promptreel.tables.reader import CommittedRun, read_rows
from promptreel.tables.request import read_request
from promptreel.tables.storage import Storage

Row = dict[str, Any]


@dataclass(frozen=True)
class RunTables:
    """The tables of a run that one manifest names."""

    storage: Storage
    manifest: Manifest

    def rows(
        self,
        table: str,
        video_id: str,
        first_us: int | None = None,
        last_us: int | None = None,
        *,
        columns: Sequence[str] | None = None,
    ) -> Iterator[Row]:
        """Yield the rows of one item in one table, in order.

        Args:
            first_us, last_us: only rows that start in this range, in microseconds, both inclusive; for frames, their time.
            columns: the columns to read; None reads all.

        Raises:
            RunDamaged: a part file is missing or corrupt.
            StateExpired: a newer state of the run in progress has replaced this one.
        """
        run_id = self.manifest.run_id
        with reading(self.manifest):
            paths = part_paths(self.storage, run_id, self.manifest.parts_of_item(table, video_id))
            with damage_in(run_id, table_folder(run_id, table)):
                yield from ItemRows(paths).of(video_id, first_us=first_us, last_us=last_us, columns=columns)

    def all_rows(self, table: str, where: str = "true", **parameters: Any) -> list[Row]:
        """Return the rows of a table that match a SQL condition with named parameters, read by DuckDB."""
        request = read_request(self.storage, self.manifest.run_id)
        run = CommittedRun(self.manifest.run_id, request.prompt, self.manifest)
        return read_rows(self.storage, run, table, where, **parameters)


def run_tables(storage: Storage, run_id: str, number: int | None = None) -> RunTables | None:
    """Return the tables of a run's newest manifest, or of manifest `number`. None before the run has ended.

    Raises:
        RunDamaged: the manifest is not readable.
        ApiError: 422 if manifest `number` does not exist; numbers come from cursors.
    """
    if number is not None:
        return RunTables(storage, _manifest(storage, run_id, number))
    newest = newest_manifest(storage, run_id)
    return None if newest is None else RunTables(storage, newest)


def readable_tables(storage: Storage, run_id: str, number: int | None = None) -> RunTables | None:
    """Like `run_tables`, but before a run has ended, return what is finished so far. None if nothing is.

    Only for readers that show an unfinished run as such.

    Args:
        number: a manifest, or the negative number of an interim state.

    Raises:
        ApiError: 422 also if the interim state has been replaced.
    """
    if number is None:
        newest = newest_readable(storage, run_id)
        return None if newest is None else RunTables(storage, newest)
    if number >= 0:
        return run_tables(storage, run_id, number)
    try:
        return RunTables(storage, read_state(storage, run_id, number))
    except StateExpired as error:
        raise _no_such_version() from error


@functools.lru_cache(maxsize=64)  # a manifest never changes
def _manifest(storage: Storage, run_id: str, number: int) -> Manifest:
    newest = newest_manifest(storage, run_id)
    if newest is None or not 1 <= number <= newest.number:
        raise _no_such_version()
    return read_manifest(storage, run_id, number)


def _no_such_version() -> ApiError:
    message = "cursor: names a version of the run that does not exist (any more); start again without a cursor"
    return invalid(message, "cursor")
