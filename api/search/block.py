"""A block of a search index: everything about some of a run's items that a search looks at, in one folder of local files.

A block is made from the committed parts of some shards, never changes, and can be made again at any time. Its places are
what a search finds: segments in order of (item, time), and after the segments of an item its synthesis.
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

VERSION: Final = 1  # part of every block's name: raise it when blocks are made differently
MARKER: Final = "block.json"
PLACES: Final = "places.arrow"
TEXTS: Final = "texts.arrow"
FRAMES: Final = "frames.arrow"

Kind = Literal["text", "frame"]
_ROW_TABLES: Final[dict[Kind, str]] = {"text": TEXTS, "frame": FRAMES}


@dataclass(frozen=True)
class VectorGroup:
    """The vectors of one model.

    Attributes:
        vectors: float32[n, d] of unit length.
        rows: int32[m]: the texts (or frames) that have one, ascending.
        numbers: int32[m]: which vector each has; equal texts share theirs.
        places: int32[m]: the place of each.
    """

    model: str
    vectors: Vectors
    rows: NDArray[np.int32]
    numbers: NDArray[np.int32]
    places: NDArray[np.int32]

    @cached_property
    def firsts(self) -> NDArray[np.intp]:
        """Where in `places` the rows of each place begin: they lie together."""
        return np.flatnonzero(np.diff(self.places, prepend=-1))


@dataclass(frozen=True)
class Block:
    """An opened block.

    Attributes:
        places: video_id, segment_id, start_us, end_us (null for a synthesis), media_type, metadata, metadata_text,
            transcript.
        texts: instance and preview of each text.
        text_places, text_fields: the place of each text, and the number of its field in `fields`.
        frames: time_us and file of each embedded frame.
        groups: vectors of texts and of frames, one for each model.
        items: (video id, number of its first place, number behind its last).
    """

    places: pa.Table
    texts: pa.Table
    text_places: NDArray[np.int32]
    text_fields: NDArray[np.int16]
    fields: tuple[str, ...]
    frames: pa.Table
    groups: Mapping[Kind, tuple[VectorGroup, ...]]
    words: WordIndex
    items: Mapping[str, tuple[int, int]]

    def __len__(self) -> int:
        return len(self.places)

    def place(self, number: int) -> dict[str, Any]:
        """All columns of one place."""
        (row,) = self.places.slice(number, 1).to_pylist()
        return row  # type: ignore[no-any-return]

    def texts_of(self, number: int) -> range:
        """Numbers of the texts of one place."""
        first, last = np.searchsorted(self.text_places, np.array([number, number + 1], np.int32))
        return range(int(first), int(last))

    def group(self, kind: Kind, model: str) -> VectorGroup | None:
        """The vectors of one model; None where there are none."""
        return next((group for group in self.groups[kind] if group.model == model), None)

    @cached_property
    def all_segments(self) -> NDArray[np.bool_]:
        """bool[places], all true."""
        return np.ones(len(self), np.bool_)

    @cached_property
    def whole_words(self) -> WordPart:
        """What is searched by words where no field is named: `metadata_text` holds the words of all leaves already."""
        return WordPart(self.words, self.text_places, len(self), self.texts_in(frozenset(SYSTEM_FIELDS)))

    def texts_in(self, fields: frozenset[str]) -> NDArray[np.bool_]:
        """bool[texts]: those of these fields."""
        return np.isin(self.text_fields, [number for number, name in enumerate(self.fields) if name in fields])

    def segments_without(self, video_ids: frozenset[str]) -> NDArray[np.bool_]:
        """bool[places]: those of other items than these."""
        if not any(video_id in self.items for video_id in video_ids):
            return self.all_segments
        shown = np.ones(len(self), np.bool_)
        for video_id in video_ids:
            first, last = self.items.get(video_id, (0, 0))
            shown[first:last] = False
        return shown


def write_marker(
    folder: Path, manifest: int, fields: Sequence[str], models: Mapping[Kind, Sequence[str]], rows: int
) -> None:
    """Ends a block: names what is in it, with the sizes and checksums of its files."""
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
    """What `write_marker` wrote; None where there is none that can be read."""
    try:
        content = json.loads((folder / MARKER).read_text())
        return content if content.pop("digest") == digest(content) and content["format"] == VERSION else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def vector_file(kind: Kind, number: int) -> str:
    """The file of one model's vectors."""
    return f"{kind}-vectors-{number}.npy"


def open_block(folder: Path) -> Block:
    """Opens a block whose files are all as they were written.

    Raises:
        StorageError: one is missing or damaged.
    """
    marker = read_marker(folder)
    if marker is None:
        raise StorageError(f"{folder}: is no finished search block")
    for name, state in marker["files"].items():
        if _state(folder / name) != state:
            raise StorageError(f"{folder / name}: is not as it was written")
    places, texts, frames = (read_table(folder / name) for name in (PLACES, TEXTS, FRAMES))
    text_places = column(texts, "place")
    groups: dict[Kind, tuple[VectorGroup, ...]] = {}
    for kind, table in (("text", texts), ("frame", frames)):
        groups[kind] = tuple(  # type: ignore[index]
            _group(folder, kind, number, model, table)  # type: ignore[arg-type]
            for number, model in enumerate(marker["models"][kind])
        )
    return Block(
        places=places,
        texts=texts,
        text_places=text_places,
        text_fields=column(texts, "field"),
        fields=tuple(marker["fields"]),
        frames=frames,
        groups=groups,
        words=read_words(folder),
        items=_items(places),
    )


def _group(folder: Path, kind: Kind, number: int, model: str, table: pa.Table) -> VectorGroup:
    rows = np.flatnonzero(column(table, "group") == number).astype(np.int32)
    vectors = open_vectors(folder / vector_file(kind, number))
    return VectorGroup(model, vectors, rows, column(table, "vector")[rows], column(table, "place")[rows])


def _items(places: pa.Table) -> dict[str, tuple[int, int]]:
    if not len(places):
        return {}
    runs = pc.run_end_encode(places["video_id"].combine_chunks())
    if isinstance(runs, pa.ChunkedArray):
        runs = runs.chunk(0)
    ends = runs.run_ends.to_pylist()
    return {
        video_id: (first, last)
        for video_id, first, last in zip(runs.values.to_pylist(), [0, *ends[:-1]], ends, strict=True)
    }


def _state(path: Path) -> list[int]:
    """[bytes, CRC-32] of a file; [0, -1] where there is none."""
    crc, size = 0, 0
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                crc, size = zlib.crc32(piece, crc), size + len(piece)
    except OSError:
        return [0, -1]
    return [size, crc]
