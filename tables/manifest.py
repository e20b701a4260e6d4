"""Manifests, the commit point of a run. Each lists every live part file; readers use only the newest.

The states of a run in progress are manifests too (`promptreel.tables.interim`), but no function here returns one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from promptreel.schemas.errors import CommitConflict, RunDamaged
from promptreel.schemas.table_rows import TABLES
from promptreel.tables import layout
from promptreel.tables.numbered_files import numbered_name, numbers_in
from promptreel.tables.parts import Part
from promptreel.tables.run_files import load_run_file
from promptreel.tables.shards import shard_of
from promptreel.tables.storage import Storage

RunStatus = Literal["completed", "completed_with_failures", "failed", "cancelled"]
ManifestStatus = RunStatus | Literal["processing"]


@dataclass(frozen=True)
class Manifest:
    """One committed state of a run's tables.

    Attributes:
        number: 1, 2, ...; each resume or retry commits the next one. Interim states have -1, -2, ...
        attempt: the attempt of the runner that committed it.
        token: unique id of the commit, by which a writer recognizes its own after an unknown outcome.
        counts: media, segments and operations by outcome, calls and tokens.
        parts: every live part file.
        shards: number of shards of the run's items, see `promptreel.tables.shards`.
    """

    run_id: str
    number: int
    attempt: int
    token: str
    status: ManifestStatus
    error_message: str | None
    committed_at: str
    counts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    parts: tuple[Part, ...] = field(default=())
    shards: int = 1

    @property
    def is_interim(self) -> bool:
        """Whether the run was in progress: some segments are unfinished, and the parts are removed later."""
        return self.number < 0

    def parts_of(self, table: str) -> list[Part]:
        """The parts of one table, in shard order."""
        return [part for part in self.parts if part.table == table]

    def parts_of_item(self, table: str, video_id: str) -> list[Part]:
        """The parts of one table that can contain rows of an item."""
        shard = shard_of(video_id, self.shards)
        return [part for part in self.parts_of(table) if part.shard == shard]

    def rows_of(self, table: str) -> int:
        return sum(part.rows for part in self.parts_of(table))


_MANIFEST: Final = TypeAdapter(Manifest)


def commit_manifest(
    storage: Storage,
    run_id: str,
    *,
    attempt: int,
    token: str,
    status: RunStatus,
    counts: Mapping[str, Any],
    parts: Sequence[Part],
    error_message: str | None = None,
    warnings: Sequence[str] = (),
    shards: int = 1,
) -> Manifest:
    """Commit the next manifest. Committing the same token again returns the manifest of the first commit.

    Raises:
        CommitConflict: a later attempt has already committed; this writer is stale.
        StorageError: the manifest could not be written. Parts are not removed, because the commit may have succeeded.
    """
    for _ in range(100):
        newest = newest_manifest(storage, run_id)
        if newest is not None and newest.token == token:
            return newest
        if newest is not None and newest.attempt > attempt:
            raise CommitConflict(
                f"run {run_id}: attempt {newest.attempt} has already committed; attempt {attempt} is stale"
            )
        manifest = Manifest(
            run_id=run_id,
            number=1 if newest is None else newest.number + 1,
            attempt=attempt,
            token=token,
            status=status,
            error_message=error_message,
            committed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            counts=dict(counts),
            warnings=tuple(warnings),
            shards=shards,
            parts=tuple(sorted(parts, key=lambda part: (part.table, part.file))),
        )
        if storage.create_exclusive(_manifest_file(run_id, manifest.number), encode_manifest(manifest)):
            return manifest
    raise CommitConflict(f"run {run_id}: other writers keep committing; make sure that only one runner works on it")


def newest_manifest(storage: Storage, run_id: str) -> Manifest | None:
    """The newest committed manifest; None before the first commit.

    Raises:
        RunDamaged: it is unreadable.
    """
    numbers = numbers_in(storage, layout.manifests_folder(run_id))
    return read_manifest(storage, run_id, max(numbers)) if numbers else None


def read_manifest(storage: Storage, run_id: str, number: int) -> Manifest:
    """Load a manifest by its number.

    Raises:
        RunDamaged: it is missing or unreadable.
    """
    name = _manifest_file(run_id, number)
    return load_manifest(storage, run_id, name)


def load_manifest(storage: Storage, run_id: str, name: str) -> Manifest:
    """Load a manifest file.

    Raises:
        RunDamaged: it is missing or unreadable.
    """
    try:
        manifest = load_run_file(storage, run_id, name, _MANIFEST)
    except FileNotFoundError as error:
        raise RunDamaged(run_id, name, "is missing") from error
    unknown = sorted({part.table for part in manifest.parts} - set(TABLES))
    if unknown:
        raise RunDamaged(run_id, name, f"is not readable (it names the unknown table {unknown[0]!r})")
    return manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """Encode a manifest; `load_manifest` decodes it."""
    return json.dumps(asdict(manifest), indent=1, ensure_ascii=False).encode()


def _manifest_file(run_id: str, number: int) -> str:
    return numbered_name(layout.manifests_folder(run_id), number)
