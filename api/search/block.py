"""A block of a search index: all searchable data of some of a run's items, in one folder of local files.

A block is built from the committed parts of some shards. It is immutable and can be rebuilt at any time. Its rows are the
units that a search returns: segments ordered by (item, time), each item's synthesis after its segments.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promptreel.api.search.files import column, read_table
from promptreel.api.search.words import WordIndex, WordPart, read_words
from promptreel.schemas.errors import StorageError
from promptreel.schemas.ids import digest
from promptreel.schemas.prompt import SYSTEM_FIELDS
from promptreel.tables.vectors import Vectors, open_vectors

VERSION: Final = 3  # part of every block's name; increase it when the format or the content of blocks changes
MARKER: Final = "block.json"
ROWS: Final = "places.arrow"
TEXTS: Final = "texts.arrow"
FRAMES: Final = "frames.arrow"

Kind = Literal["text", "frame"]
_ROW_TABLES: Final[dict[Kind, str]] = {"text": TEXTS, "frame": FRAMES}


@dataclass(frozen=True)
class VectorGroup:
    """The vectors of one model.

    Attributes:
        vectors: float32[n, d] of unit length.
        members: int32[m], ascending: indices of the texts (or frames) that have a vector.
        vector_indices: int32[m]: index into `vectors` of each member; equal texts share a vector.
        rows: int32[m]: block row of each member.
    """

    model: str
    vectors: Vectors
    members: NDArray[np.int32]
    vector_indices: NDArray[np.int32]
    rows: NDArray[np.int32]

    @cached_property
    def row_starts(self) -> NDArray[np.intp]:
        """Indices into `rows` at which the members of each row start; they are consecutive."""
        return np.flatnonzero(np.diff(self.rows, prepend=-1))


@dataclass(frozen=True)
class Block:
    """An opened block.

    Attributes:
        rows: video_id, segment_id, start_us, end_us (null for a synthesis), media_type, metadata, metadata_text, transcript,
            and frame_us and frame_file of the frame nearest to the segment's middle (null for a synthesis).
        texts: instance and preview of each text.
        text_rows, text_fields: block row of each text, and the index of its field in `fields`.
        frames: time_us and file of each embedded frame.
        groups: vectors of texts and of frames, one group per model.
        items: (first row, end row) of each video id; the end is exclusive.
    """

    rows: pa.Table
    texts: pa.Table
    text_rows: NDArray[np.int32]
    text_fields: NDArray[np.int16]
    fields: tuple[str, ...]
    frames: pa.Table
    groups: Mapping[Kind, tuple[VectorGroup, ...]]
    words: WordIndex
    items: Mapping[str, tuple[int, int]]

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, number: int) -> dict[str, Any]:
        """Return all columns of one row."""
        (row,) = self.rows.slice(number, 1).to_pylist()
        return row  # type: ignore[no-any-return]

    def texts_of(self, number: int) -> range:
        """Return the indices of the texts of one row."""
        first, last = np.searchsorted(self.text_rows, np.array([number, number + 1], np.int32))
        return range(int(first), int(last))

    def group(self, kind: Kind, model: str) -> VectorGroup | None:
        """Return the vectors of a model, or None if the block has none."""
        return next((group for group in self.groups[kind] if group.model == model), None)

    @cached_property
    def all_rows(self) -> NDArray[np.bool_]:
        """bool[rows], all true."""
        return np.ones(len(self), np.bool_)

    @cached_property
    def all_words(self) -> WordPart:
        """The word index for queries that select no fields: `metadata_text` already contains the words of all indexed
        leaves."""
        return WordPart(self.words, self.text_rows, len(self), self.texts_in(frozenset(SYSTEM_FIELDS)))

    def texts_in(self, fields: frozenset[str]) -> NDArray[np.bool_]:
        """Return bool[texts]: whether each text belongs to one of these fields."""
        return np.isin(self.text_fields, [number for number, name in enumerate(self.fields) if name in fields])

    def rows_without(self, video_ids: frozenset[str]) -> NDArray[np.bool_]:
        """Return bool[rows]: false for the rows of these items."""
        if not any(video_id in self.items for video_id in video_ids):
            return self.all_rows
        visible = np.ones(len(self), np.bool_)
        for video_id in video_ids:
            first, last = self.items.get(video_id, (0, 0))
            visible[first:last] = False
        return visible


def write_marker(
    folder: Path, manifest: int, fields: Sequence[str], models: Mapping[Kind, Sequence[str]], rows: int
) -> None:
    """Complete a block by writing its marker: its content, and the sizes and checksums of its files."""
    files = {path.name: _state(path) for path in sorted(folder.iterdir()) if path.name != MARKER}
    content = {
        "format": VERSION,
        "manifest": manifest,
        "places": rows,
        "fields": list(fields),
        "models": {kind: list(names) for kind, names in models.items()},
        "files": files,
    }
    (folder / MARKER).write_text(json.dumps({**content, "digest": digest(content)}, indent=1))


def read_marker(folder: Path) -> dict[str, Any] | None:
    """Return what `write_marker` wrote, or None if the marker is missing, damaged or of another version."""
    try:
        content = json.loads((folder / MARKER).read_text())
        return content if content.pop("digest") == digest(content) and content["format"] == VERSION else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def vector_file(kind: Kind, number: int) -> str:
    """Return the name of the file with one model's vectors."""
    return f"{kind}-vectors-{number}.npy"


def open_block(folder: Path) -> Block:
    """Open a block after verifying its files against the marker.

    Raises:
        StorageError: the marker or a file is missing or damaged.
    """
    marker = read_marker(folder)
    if marker is None:
        raise StorageError(f"{folder} is not a complete search block")
    for name, state in marker["files"].items():
        if _state(folder / name) != state:
            raise StorageError(f"{folder / name} is missing or damaged")
    rows, texts, frames = (read_table(folder / name) for name in (ROWS, TEXTS, FRAMES))
    text_rows = column(texts, "place")
    groups: dict[Kind, tuple[VectorGroup, ...]] = {}
    for kind, table in (("text", texts), ("frame", frames)):
        groups[kind] = tuple(  # type: ignore[index]
            _group(folder, kind, number, model, table)  # type: ignore[arg-type]
            for number, model in enumerate(marker["models"][kind])
        )
    return Block(
        rows=rows,
        texts=texts,
        text_rows=text_rows,
        text_fields=column(texts, "field"),
        fields=tuple(marker["fields"]),
        frames=frames,
        groups=groups,
        words=read_words(folder),
        items=_items(rows),
    )


def _group(folder: Path, kind: Kind, number: int, model: str, table: pa.Table) -> VectorGroup:
    members = np.flatnonzero(column(table, "group") == number).astype(np.int32)
    vectors = open_vectors(folder / vector_file(kind, number))
    return VectorGroup(model, vectors, members, column(table, "vector")[members], column(table, "place")[members])


def _items(rows: pa.Table) -> dict[str, tuple[int, int]]:
    if not len(rows):
        return {}
    runs = pc.run_end_encode(rows["video_id"].combine_chunks())
    if isinstance(runs, pa.ChunkedArray):
        runs = runs.chunk(0)
    ends = runs.run_ends.to_pylist()
    return {
        video_id: (first, last)
        for video_id, first, last in zip(runs.values.to_pylist(), [0, *ends[:-1]], ends, strict=True)
    }


def _state(path: Path) -> list[int]:
    """Return [size in bytes, CRC-32] of a file; [0, -1] if it cannot be read."""
    crc, size = 0, 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    except OSError:
        return [0, -1]
    return [size, crc]
