"""Tables of a search index on disk, as Arrow files whose columns are read in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from numpy.typing import NDArray

from promptreel.schemas.errors import StorageError

_MAP_ABOVE_BYTES: Final = 1 << 20  # smaller files are read whole: a mapping holds a file descriptor


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table as one batch, so that each column lies in one piece."""
    whole = table.combine_chunks()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, whole.schema) as writer:
        writer.write_table(whole, max_chunksize=max(1, len(whole)))


def read_table(path: Path) -> pa.Table:
    """Reads what `write_table` wrote; a large file stays on disk and is read where it is touched.

    Raises:
        StorageError: it is missing, or no such file.
    """
    try:
        mapped = path.stat().st_size > _MAP_ABOVE_BYTES
        source = pa.memory_map(str(path)) if mapped else pa.BufferReader(path.read_bytes())
        return pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{path}: is no readable table ({error}); remove it, it is made again") from error


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """A column of numbers in place."""
    whole = table[name].combine_chunks()
    chunk = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    numbers: NDArray[Any] = chunk.to_numpy(zero_copy_only=len(chunk) > 0)
    return numbers
