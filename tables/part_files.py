"""Checked access to the part files of a run: a missing or truncated file makes its run damaged."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from promptreel.schemas.errors import RunDamaged, StorageError
from promptreel.tables.layout import parts_folder, run_folder
from promptreel.tables.manifest import Manifest
from promptreel.tables.parts import Part
from promptreel.tables.storage import Storage

_MAX_CHECKED_FILES = 65_536  # cached per process


def part_paths(storage: Storage, run_id: str, parts: Iterable[Part]) -> list[Path]:
    """Local paths of parts, after checking that their footers are readable.

    Raises:
        RunDamaged: a part is missing or truncated.
        StorageError: a part cannot be fetched or read.
    """
    paths = []
    for part in parts:
        with damage_in(run_id, f"{run_folder(run_id)}/{part.file}"):
            path = _local_part(storage, run_id, part)
            state = path.stat()
            _check_footer(path, state.st_size, state.st_mtime_ns)
            paths.append(path)
    return paths


def _local_part(storage: Storage, run_id: str, part: Part) -> Path:
    try:
        return storage.local_file(f"{run_folder(run_id)}/{part.file}")
    except FileNotFoundError:  # an earlier version wrote the part to `tables/`, and a later manifest superseded it
        return storage.local_file(f"{parts_folder(run_id, part.table)}/{part.name}")


def check_parts(storage: Storage, manifest: Manifest) -> None:
    """Check all parts of a manifest. Raises RunDamaged if one is missing or truncated."""
    part_paths(storage, manifest.run_id, manifest.parts)


def find_damage(storage: Storage, manifest: Manifest, tables: Sequence[str]) -> RunDamaged | None:
    """Find the damage that made a query over some tables of a run fail, by reading every part in full."""
    for part in (part for table in tables for part in manifest.parts_of(table)):
        try:
            with damage_in(manifest.run_id, f"{run_folder(manifest.run_id)}/{part.file}"):
                pq.read_table(*part_paths(storage, manifest.run_id, [part]))
        except RunDamaged as damage:
            return damage
    return None


@contextmanager
def damage_in(run_id: str, file: str) -> Iterator[None]:
    """Convert pyarrow errors about the content of a file to RunDamaged.

    Args:
        file: name relative to the data folder; the table's folder if the part is unknown.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise RunDamaged(run_id, file, "is missing") from error
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise StorageError(f"cannot read {file}: {error.strerror or error}") from error
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise RunDamaged(run_id, file, f"cannot be read as Parquet ({cause})") from error


@functools.lru_cache(maxsize=_MAX_CHECKED_FILES)
def _check_footer(path: Path, size: int, changed_ns: int) -> None:
    """Read a footer; size and modification time are part of the cache key, so a changed file is checked again."""
    pq.read_metadata(path)
