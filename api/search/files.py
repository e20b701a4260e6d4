"""Tables of a search index, stored as Arrow files and read without copying."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from numpy.typing import NDArray

from promptreel.schemas.errors import StorageError

_MAP_ABOVE_BYTES: Final = 1 << 20  # smaller files are read into memory, because a mapping occupies a file descriptor


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as one batch, so that each column is contiguous."""
    combined = table.combine_chunks()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, combined.schema) as writer:
        writer.write_table(combined, max_chunksize=max(1, len(combined)))


def read_table(path: Path) -> pa.Table:
    """Read what `write_table` wrote; large files are memory-mapped.

    Raises:
        StorageError: the file is missing or not an Arrow file.
    """
    try:
        mapped = path.stat().st_size > _MAP_ABOVE_BYTES
        source = pa.memory_map(str(path)) if mapped else pa.BufferReader(path.read_bytes())
        return pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{path} is not a readable table ({error}); delete its folder to have it rebuilt") from error


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a numeric column without copying it."""
    combined = table[name].combine_chunks()
    chunk = combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
    numbers: NDArray[Any] = chunk.to_numpy(zero_copy_only=len(chunk) > 0)
    return numbers
