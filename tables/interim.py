"""Interim states: manifests that the runner commits while a run is in progress, so that finished segments are readable.

They exist only until the run's first manifest, in a folder of their own, so code that reads `newest_manifest` never sees
one. Only readers that may show an unfinished run use `newest_readable`. A superseded state is removed some time later with
the parts that no newer state lists, so a reader must handle `StateExpired`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from promptreel.schemas.errors import CommitConflict, RunDamaged, StateExpired
from promptreel.tables import layout
from promptreel.tables.manifest import (
    Manifest,
    encode_manifest,
    load_manifest,
    newest_manifest,
    read_manifest,
)
from promptreel.tables.numbered_files import numbered_name, numbers_in
from promptreel.tables.parts import Part
from promptreel.tables.storage import Storage


def commit_interim(
    storage: Storage,
    run_id: str,
    *,
    attempt: int,
    counts: Mapping[str, Any],
    parts: Sequence[Part],
    warnings: Iterable[str] = (),
    shards: int = 1,
) -> Manifest:
    """Commit the next interim state of a run.

    Raises:
        CommitConflict: a later attempt has committed a state, or the run has a manifest.
        StorageError: the state could not be written.
    """
    for _ in range(100):
        if newest_manifest(storage, run_id) is not None:
            raise CommitConflict(f"run {run_id} has a manifest; it needs no interim state")
        newest = newest_interim(storage, run_id)
        if newest is not None and newest.attempt > attempt:
            raise CommitConflict(f"run {run_id}: attempt {newest.attempt} has already committed an interim state")
        number = (0 if newest is None else newest.number) - 1
        manifest = Manifest(
            run_id=run_id,
            number=number,
            attempt=attempt,
            token=f"{run_id}-{attempt}-interim{number}",
            status="processing",
            error_message=None,
            committed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            counts=dict(sorted(counts.items())),
            warnings=tuple(sorted(warnings)),
            shards=shards,
            parts=tuple(sorted(parts, key=lambda part: (part.table, part.file))),
        )
        if storage.create_exclusive(_interim_file(run_id, number), encode_manifest(manifest)):
            return manifest
    raise CommitConflict(f"run {run_id}: other writers keep committing interim states")


def newest_interim(storage: Storage, run_id: str, known: Manifest | None = None) -> Manifest | None:
    """The newest interim state; None before the first.

    Args:
        known: an earlier result, returned if it is still the newest.

    Raises:
        RunDamaged: it is unreadable.
    """
    numbers = numbers_in(storage, layout.interim_folder(run_id))
    if not numbers or (known is not None and known.number == -max(numbers)):
        return known if numbers else None
    try:
        return load_manifest(storage, run_id, _interim_file(run_id, -max(numbers)))
    except RunDamaged:
        if not numbers_in(storage, layout.interim_folder(run_id)):
            return None  # removed since it was listed, because the run has committed its manifest
        raise


def newest_readable(storage: Storage, run_id: str) -> Manifest | None:
    """The newest manifest, or the newest interim state of a run without one; None if the run has neither.

    Raises:
        RunDamaged: it is unreadable.
    """
    manifest = newest_manifest(storage, run_id) or newest_interim(storage, run_id)
    return manifest or newest_manifest(storage, run_id)  # the run may have committed it in between


def read_state(storage: Storage, run_id: str, number: int) -> Manifest:
    """Load a manifest, or an interim state by its negative number.

    Raises:
        StateExpired: the interim state has been removed.
        RunDamaged: the manifest is missing or unreadable.
    """
    if number >= 0:
        return read_manifest(storage, run_id, number)
    if -number not in numbers_in(storage, layout.interim_folder(run_id)):
        raise StateExpired(run_id)
    return load_manifest(storage, run_id, _interim_file(run_id, number))


@contextmanager
def reading(manifest: Manifest) -> Iterator[None]:
    """Convert the damage found while reading an interim state to StateExpired: its parts may have been removed."""
    try:
        yield
    except RunDamaged as error:
        if manifest.is_interim:
            raise StateExpired(manifest.run_id) from error
        raise


def interim_states(storage: Storage, run_id: str) -> list[Manifest]:
    """All interim states that have not been removed, oldest first."""
    numbers = numbers_in(storage, layout.interim_folder(run_id))
    return [load_manifest(storage, run_id, _interim_file(run_id, -number)) for number in numbers]


def remove_interim(storage: Storage, states: Iterable[Manifest], remaining: Iterable[Manifest]) -> None:
    """Remove interim states, and their parts that no remaining manifest lists.

    A state goes before its parts, so that no state lists a missing part.
    """
    used = {part.file for manifest in remaining for part in manifest.parts}
    for state in states:
        assert state.is_interim
        storage.remove(_interim_file(state.run_id, state.number))
        for part in state.parts:
            if part.file not in used:
                storage.remove(f"{layout.run_folder(state.run_id)}/{part.file}")


def _interim_file(run_id: str, number: int) -> str:
    return numbered_name(layout.interim_folder(run_id), -number)
