"""Rows of a run's newest manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Final

from promptreel.schemas.table_rows import TABLES
from promptreel.tables.manifest import newest_manifest
from promptreel.tables.pages import ItemRows
from promptreel.tables.part_files import part_paths
from promptreel.tables.storage import Storage
from promptreel.transforms.rows.counts import counts_of
from promptreel.transforms.rows.source import Row

# The columns of each table that were added after the first release, with their defaults.
_ADDED_COLUMNS: Final[dict[str, Row]] = {
    table: {part.name: part.default for part in fields(record) if part.default is not MISSING}
    for table, record in TABLES.items()
}


class EarlierRows:
    """The rows of one shard in a run's newest manifest, which a retry of other items copies unchanged."""

    def __init__(self, storage: Storage, run_id: str, shard: int) -> None:
        manifest = newest_manifest(storage, run_id)
        parts = [part for part in manifest.parts if part.shard == shard] if manifest is not None else []
        self._rows = {
            table: ItemRows(part_paths(storage, run_id, (part for part in parts if part.table == table)))
            for table in TABLES
        }
        self.video_ids = frozenset(self._rows["media"].video_ids())

    def of_item(self, video_id: str) -> Iterator[tuple[str, Row]]:
        """Yield (table, row) of one item in every table except `llm_calls`, whose rows come from the call log.

        Columns that were added after the rows were written have their defaults."""
        for table, rows in self._rows.items():
            if table != "llm_calls":
                for row in rows.of(video_id):
                    yield table, {**_ADDED_COLUMNS[table], **row}

    def counts(self) -> Counter[str]:
        """Return the shard's contribution to the manifest's counts."""
        counts: Counter[str] = Counter()
        for table, rows in self._rows.items():
            for video_id in self.video_ids:
                for row in rows.of(video_id):
                    counts.update(counts_of(table, row))
        return counts
