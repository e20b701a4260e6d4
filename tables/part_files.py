"""The part files of a run, checked before they are read: one that is missing or torn makes its run damaged."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from promptreel.schemas.errors import RunDamaged, StorageError
from promptreel.tables.layout import run_folder
from promptreel.tables.manifest import Manifest
from promptreel.tables.parts import Part
from promptreel.tables.storage import Storage

_CHECKED_FILES = 65_536  # remembered in this process


def part_paths(storage: Storage, run_id: str, parts: Iterable[Part]) -> list[Path]:
    """Local paths of parts whose footers can be read.

    Raises:
        RunDamaged: a part is missing or torn.
        StorageError: a part cannot be fetched or read at all.
    """
    paths = []
    for part in parts:
        with damage_in(run_id, f"{run_folder(run_id)}/{part.file}"):
            path = storage.local_file(f"{run_folder(run_id)}/{part.file}")
            state = path.stat()
            _check_footer(path, state.st_size, state.st_mtime_ns)
            paths.append(path)
    return paths


def check_parts(storage: Storage, manifest: Manifest) -> None:
    """Raises RunDamaged if a part of a manifest is missing or torn."""
    part_paths(storage, manifest.run_id, manifest.parts)


def find_damage(storage: Storage, manifest: Manifest, tables: Sequence[str]) -> RunDamaged | None:
    """The damage behind a failed query over some tables of a run: every part is read to its end, until one cannot be."""
    for part in (part for table in tables for part in manifest.parts_of(table)):
        try:
            with damage_in(manifest.run_id, f"{run_folder(manifest.run_id)}/{part.file}"):
                pq.read_table(*part_paths(storage, manifest.run_id, [part]))
        except RunDamaged as damage:
            return damage
    return None


@contextmanager
def damage_in(run_id: str, file: str) -> Iterator[None]:
    """Turns what pyarrow raises about the content of a file into RunDamaged.

    Args:
        file: name below the data folder; that of a table's folder where it may be any part of it.
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


@functools.lru_cache(maxsize=_CHECKED_FILES)
def _check_footer(path: Path, size: int, changed_ns: int) -> None:
    """Reads a footer, once for each state of a file."""
    pq.read_metadata(path)
