"""What a run folder has for readers without promptreel: `tables/`, whose folders contain exactly the parts of the newest
manifest, and `tables.sql`.

Parts are immutable files in `parts/`. They stay there after a resume or retry has superseded them, because open readers,
cursors and comparisons read an older manifest. `tables/` has second names of the live ones, so a pattern over its folders
counts no row twice. Both are derived from the newest manifest and derived again after a crash; promptreel reads neither.
"""

from __future__ import annotations

import logging

from promptreel.schemas.errors import ExpectedError
from promptreel.schemas.table_rows import TABLES
from promptreel.tables import layout
from promptreel.tables.manifest import Manifest, newest_manifest
from promptreel.tables.request import read_request
from promptreel.tables.run_views import write_views
from promptreel.tables.storage import Storage


def publish_newest(storage: Storage, run_id: str) -> None:
    """Derive `tables/` and `tables.sql` from the newest manifest, even if another attempt commits concurrently.

    Does nothing before the first commit.

    Raises:
        RunDamaged: the request or the manifest is unreadable.
        StorageError: a file cannot be written.
    """
    published = None
    while (manifest := newest_manifest(storage, run_id)) is not None and manifest.number != published:
        request = read_request(storage, run_id)
        publish_parts(storage, manifest)
        write_views(storage, request.prompt, manifest, request.evidence_fields)
        published = manifest.number


def repair_published(storage: Storage, run_id: str) -> None:
    """Publish the newest manifest if its runner died before it did. Never raises: promptreel itself does not need it."""
    try:
        publish_newest(storage, run_id)
    except ExpectedError as error:
        logging.getLogger(__name__).warning("the tables of %s were not published: %s", run_id, error)


def publish_parts(storage: Storage, manifest: Manifest) -> None:
    """Let each folder of `tables/` contain exactly the parts of a manifest. Missing parts are left out."""
    for table in TABLES:
        _publish_table(storage, manifest, table)


def _publish_table(storage: Storage, manifest: Manifest, table: str) -> None:
    """Remove superseded parts before live ones are added, so that a reader never finds a row twice."""
    folder = layout.table_folder(manifest.run_id, table)
    live = {part.name: part.file for part in manifest.parts_of(table)}
    found = {name for name in storage.list_names(folder) if name.startswith("part-") and name.endswith(".parquet")}
    superseded = found - live.keys()
    if superseded:
        # A part that an earlier version wrote has only the name in `tables/`.
        parts = layout.parts_folder(manifest.run_id, table)
        only_here = superseded - set(storage.list_names(parts))
        storage.link_files({f"{folder}/{name}": f"{parts}/{name}" for name in sorted(only_here)})
        for name in sorted(superseded):
            storage.remove(f"{folder}/{name}")
    run = layout.run_folder(manifest.run_id)
    storage.link_files({f"{run}/{live[name]}": f"{folder}/{name}" for name in sorted(live.keys() - found)})
