"""Queries over the committed tables of one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from promptreel.tables.interim import reading
from promptreel.tables.manifest import Manifest
from promptreel.tables.part_files import find_damage
from promptreel.tables.reader import CommittedRun, connect
from promptreel.tables.storage import Storage


@dataclass(frozen=True)
class CommittedTables:
    """The tables of one committed state of a run, on one connection."""

    storage: Storage
    run: CommittedRun
    connection: duckdb.DuckDBPyConnection

    def rows(self, sql: str, tables: Sequence[str], **parameters: Any) -> list[dict[str, Any]]:
        """Run one SELECT.

        Args:
            tables: the tables that it reads.
            parameters: values of `$name` in the statement.

        Raises:
            RunDamaged: a part of these tables is missing or truncated.
            StateExpired: the run is in progress, and a newer state has replaced this one.
        """
        try:
            cursor = self.connection.execute(sql, parameters or None)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except duckdb.Error as error:
            with reading(self.run.manifest):
                raise find_damage(self.storage, self.run.manifest, list(tables)) or error from error

    def without_run_warnings(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return rows whose `warnings` lack those of the run, which the overview shows once."""
        return without_run_warnings(self.run.manifest, rows)


def without_run_warnings(manifest: Manifest, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows whose `warnings` lack those of the run, which every row repeats."""
    of_run = set(manifest.warnings)
    return [{**row, "warnings": [text for text in row["warnings"] or () if text not in of_run]} for row in rows]


@contextmanager
def open_tables(storage: Storage, run: CommittedRun) -> Iterator[CommittedTables]:
    """Open the tables of a run.

    Raises:
        RunDamaged: a part is missing or truncated.
        StateExpired: the run is in progress, and a newer state has replaced this one.
    """
    with connect(storage, run) as connection:
        yield CommittedTables(storage, run, connection)
