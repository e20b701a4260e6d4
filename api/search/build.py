"""Build the blocks of a search index from the committed tables of a run.

`python -m promptreel.api.search.build DATA CACHE RUN MANIFEST BLOCK...` builds them in a separate process, so that a large
build neither delays requests nor retains memory.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from promptreel.api.search.block import (
    FRAMES,
    MARKER,
    ROWS,
    TEXTS,
    VERSION,
    vector_file,
    write_marker,
)
from promptreel.api.search.files import write_table
from promptreel.api.search.words import index_words, write_words
from promptreel.providers.text_embedding import texts_of
from promptreel.schemas.errors import StorageError
from promptreel.schemas.field_paths import LeafField
from promptreel.schemas.ids import digest
from promptreel.schemas.prompt import Prompt
from promptreel.tables.layout import run_folder
from promptreel.tables.manifest import Manifest, read_manifest
from promptreel.tables.part_files import damage_in, part_paths
from promptreel.tables.request import read_request
from promptreel.tables.storage import LocalStorage, Storage, open_storage
from promptreel.tables.table_schemas import VECTOR
from promptreel.tables.vectors import write_vectors

SEARCH: Final = "search"
SHARDS_PER_BLOCK: Final = 16  # fewer: queries read more blocks; more: a retry rebuilds more
PREVIEW_CHARS: Final = 200
_READ_TABLES: Final = (
    "segments", "results", "transcripts", "video_results", "text_embeddings", "image_embeddings", "frames",
)  # fmt: skip


@dataclass(frozen=True)
class BlockPlan:
    """A block that a manifest requires.

    Attributes:
        name: derived from the files of the block's parts, so that a block is reused while they are unchanged.
        rows: number of rows in these parts; estimates the effort of a build.
    """

    name: str
    shards: range
    rows: int


def plan_blocks(manifest: Manifest) -> list[BlockPlan]:
    """Return the blocks that cover a manifest."""
    plans = []
    for first in range(0, manifest.shards, SHARDS_PER_BLOCK):
        shards = range(first, min(first + SHARDS_PER_BLOCK, manifest.shards))
        parts = [part for part in manifest.parts if part.table in _READ_TABLES and part.shard in shards]
        if parts:
            key = digest([VERSION, sorted(part.file for part in parts)])[:16]
            plans.append(BlockPlan(f"{first:04d}-{key}", shards, sum(part.rows for part in parts)))
    return plans


def block_folder(run_id: str, name: str) -> str:
    """Return the folder of a block, relative to the root of the cache."""
    return f"{SEARCH}/{run_id}/{name}"


def build_block(storage: Storage, cache: LocalStorage, manifest: Manifest, plan: BlockPlan) -> None:
    """Build one block in a work folder and commit it atomically.

    Raises:
        RunDamaged: a part is missing or damaged.
        StorageError: the cache cannot be written.
        RunNotFound: the run's folder does not exist.
    """
    prompt = read_request(storage, manifest.run_id).prompt
    parts = _Parts(storage, manifest, plan.shards)
    with cache.work_folder() as work:
        folder = work / plan.name
        try:
            folder.mkdir()
            _write_block(parts, prompt, manifest.number, folder)
        except (OSError, pa.ArrowException) as error:
            source = f"run {manifest.run_id}, manifest {manifest.number}"
            raise StorageError(f"cannot build search block {plan.name} of {source}: {error}") from error
        cache.commit_folder(folder, block_folder(manifest.run_id, plan.name), MARKER)


@dataclass(frozen=True)
class _Parts:
    """The committed parts of some shards."""

    storage: Storage
    manifest: Manifest
    shards: range

    def groups(self, table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the row groups of a table with the given columns."""
        run_id = self.manifest.run_id
        for part in self.manifest.parts_of(table):
            if part.shard in self.shards:
                [path] = part_paths(self.storage, run_id, [part])
                with damage_in(run_id, f"{run_folder(run_id)}/{part.file}"), pq.ParquetFile(path) as file:
                    for number in range(file.num_row_groups):
                        yield file.read_row_group(number, columns=list(columns))

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a table as tuples of the given columns."""
        for group in self.groups(table, columns):
            yield from zip(*(group[name].to_pylist() for name in columns), strict=True)


@dataclass
class _BlockRows:
    """The rows of a block under construction: columns, and the row number of each (video id, segment id)."""

    table: dict[str, list[Any]]
    numbers: dict[tuple[str, str | None], int]


@dataclass
class _Texts:
    """The texts of a block under construction, ordered by row."""

    rows: list[int] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    instance: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)


def _write_block(parts: _Parts, prompt: Prompt, manifest: int, folder: Path) -> None:
    rows = _read_rows(parts)
    texts = _indexed_texts(rows, prompt)
    names = sorted(set(texts.fields))
    field_number = {name: number for number, name in enumerate(names)}
    text_models, text_group, text_vector = _text_vectors(parts, texts, folder)
    frame_models, frames = _frames(parts, rows, folder)
    write_table(folder / ROWS, pa.table(rows.table, schema=_ROWS_SCHEMA))
    write_table(
        folder / TEXTS,
        pa.table(
            {
                "place": pa.array(texts.rows, pa.int32()),
                "field": pa.array([field_number[name] for name in texts.fields], pa.int16()),
                "instance": pa.array(texts.instance, pa.large_string()),
                "preview": pa.array([text[:PREVIEW_CHARS] for text in texts.text], pa.large_string()),
                "group": text_group,
                "vector": text_vector,
            }
        ),
    )
    write_table(folder / FRAMES, frames)
    write_words(index_words(texts.text), folder)
    write_marker(folder, manifest, names, {"text": text_models, "frame": frame_models}, len(rows.numbers))


_ROWS_SCHEMA: Final = pa.schema(
    [
        ("video_id", pa.string()),
        ("segment_id", pa.string()),
        ("start_us", pa.int64()),
        ("end_us", pa.int64()),
        ("media_type", pa.string()),
        ("metadata", pa.large_string()),
        ("metadata_text", pa.large_string()),
        ("transcript", pa.large_string()),
        ("frame_us", pa.int64()),
        ("frame_file", pa.string()),
    ]
)


def _read_rows(parts: _Parts) -> _BlockRows:
    """Read all segments and syntheses with their metadata and transcripts."""
    found = list(parts.rows("segments", ("video_id", "start_us", "segment_id", "end_us", "media_type")))
    rows = [(video_id, False, *rest) for video_id, *rest in found]
    syntheses = {
        video_id: (media_type, *rest)
        for video_id, media_type, *rest in parts.rows(
            "video_results", ("video_id", "media_type", "metadata", "metadata_text")
        )
    }
    rows += [(video_id, True, 0, "", None, syntheses[video_id][0]) for video_id in syntheses]
    rows.sort(key=lambda row: row[:4])
    table: dict[str, list[Any]] = {name: [None] * len(rows) for name in _ROWS_SCHEMA.names}
    numbers: dict[tuple[str, str | None], int] = {}
    for at, (video_id, is_synthesis, start_us, segment_id, end_us, media_type) in enumerate(rows):
        table["video_id"][at], table["media_type"][at] = video_id, media_type
        if is_synthesis:
            numbers[video_id, None] = at
            _, table["metadata"][at], table["metadata_text"][at] = syntheses[video_id]
        else:
            numbers[video_id, segment_id] = at
            table["segment_id"][at], table["start_us"][at], table["end_us"][at] = segment_id, start_us, end_us
    for video_id, segment_id, metadata, metadata_text in parts.rows(
        "results", ("video_id", "segment_id", "metadata", "metadata_text")
    ):
        if (row := numbers.get((video_id, segment_id))) is not None:
            table["metadata"][row], table["metadata_text"][row] = metadata, metadata_text
    for video_id, segment_id, text in parts.rows("transcripts", ("video_id", "segment_id", "text")):
        if (row := numbers.get((video_id, segment_id))) is not None:
            table["transcript"][row] = text
    _add_frames(parts, table, numbers)
    return _BlockRows(table, numbers)


def _add_frames(parts: _Parts, table: dict[str, list[Any]], numbers: Mapping[tuple[str, str | None], int]) -> None:
    """Add the frame nearest to the middle of each segment."""
    for video_id, segment_id, time_us, file in parts.rows("frames", ("video_id", "segment_id", "time_us", "file")):
        if (row := numbers.get((video_id, segment_id))) is None:
            continue
        middle_us, known_us = (table["start_us"][row] + table["end_us"][row]) // 2, table["frame_us"][row]
        if known_us is None or abs(time_us - middle_us) < abs(known_us - middle_us):
            table["frame_us"][row], table["frame_file"][row] = time_us, file


def _indexed_texts(rows: _BlockRows, prompt: Prompt) -> _Texts:
    """Return all searchable texts, by the same rules by which the pipeline selects texts to embed."""
    level, indexing = prompt.video_level, prompt.semantic_indexing
    of_segments = (prompt.leaves, indexing.disabled_segment_fields)
    of_items = (level.leaves if level is not None else (), indexing.disabled_video_level_fields)
    texts = _Texts()
    table = rows.table
    for at, (segment_id, metadata, metadata_text, transcript) in enumerate(
        zip(table["segment_id"], table["metadata"], table["metadata_text"], table["transcript"], strict=True)
    ):
        leaves: tuple[LeafField, ...]
        leaves, disabled = of_items if segment_id is None else of_segments
        values = json.loads(metadata) if metadata is not None else {}
        for part in texts_of(values, metadata_text or "", transcript or "", leaves, disabled):
            texts.rows.append(at)
            texts.fields.append(part.field)
            texts.instance.append(part.instance)
            texts.text.append(part.text)
    return texts


def _text_vectors(parts: _Parts, texts: _Texts, folder: Path) -> tuple[list[str], pa.Array, pa.Array]:
    """Write the vectors of all texts, those of equal texts once.

    Returns:
        (models, group of each text or -1, index of each text's vector in its group or -1).
    """
    known: dict[tuple[str, int], dict[str, int]] = {}
    firsts: list[dict[tuple[str, int], list[int]]] = []  # per row group: rows where a text occurs first
    for group in parts.groups("text_embeddings", ("model", "dimension", "text")):
        new: dict[tuple[str, int], list[int]] = {}
        columns = (group[name].to_pylist() for name in ("model", "dimension", "text"))
        for at, (model, dimension, text) in enumerate(zip(*columns, strict=True)):
            numbers = known.setdefault((model, dimension), {})
            if text not in numbers:
                numbers[text] = len(numbers)
                new.setdefault((model, dimension), []).append(at)
        firsts.append(new)
    for number, (key, numbers) in enumerate(known.items()):
        batches = (
            _matrix(group)[new[key]]
            for group, new in zip(parts.groups("text_embeddings", (VECTOR,)), firsts, strict=True)
            if key in new
        )
        write_vectors(folder / vector_file("text", number), len(numbers), key[1], batches)
    groups, vectors = [], []
    for text in texts.text:
        found = next(((n, known[key][text]) for n, key in enumerate(known) if text in known[key]), (-1, -1))
        groups.append(found[0])
        vectors.append(found[1])
    return [model for model, _ in known], pa.array(groups, pa.int16()), pa.array(vectors, pa.int32())


def _frames(parts: _Parts, block_rows: _BlockRows, folder: Path) -> tuple[list[str], pa.Table]:
    """Write the vectors of all embedded frames; return (models, table of frames)."""
    names = ("video_id", "segment_id", "time_us", "file", "model", "dimension")
    rows = list(parts.rows("image_embeddings", names))
    models: dict[tuple[str, int], list[int]] = {}
    for at, (*_, model, dimension) in enumerate(rows):
        models.setdefault((model, dimension), []).append(at)
    group, vector = np.zeros(len(rows), np.int16), np.zeros(len(rows), np.int32)
    for number, (key, members) in enumerate(models.items()):
        group[members] = number
        vector[members] = np.arange(len(members))
        write_vectors(folder / vector_file("frame", number), len(members), key[1], _frame_vectors(parts, members))
    table = {
        "place": pa.array([block_rows.numbers[row[0], row[1]] for row in rows], pa.int32()),
        "time_us": pa.array([row[2] for row in rows], pa.int64()),
        "file": pa.array([row[3] for row in rows], pa.string()),
        "group": group,
        "vector": vector,
    }
    return [model for model, _ in models], pa.table(table)


def _frame_vectors(parts: _Parts, members: Sequence[int]) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    """Yield the vectors of some rows of image_embeddings; `members` are row numbers in the complete table."""
    selected = np.asarray(members)
    first = 0
    for group in parts.groups("image_embeddings", (VECTOR,)):
        inside = selected[(selected >= first) & (selected < first + len(group))] - first
        yield _matrix(group)[inside]
        first += len(group)


def _matrix(group: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the vectors of a row group as float32[n, d]."""
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in group[VECTOR].chunks]
    return np.concatenate(chunks).reshape(len(group), -1).astype(np.float32, copy=False)


def main(arguments: Sequence[str]) -> int:
    """Build the named blocks."""
    data, cache, run_id, number, *names = arguments
    os.nice(10)
    storage = open_storage(data)
    manifest = read_manifest(storage, run_id, int(number))
    for plan in plan_blocks(manifest):
        if plan.name in names:
            build_block(storage, LocalStorage(Path(cache)), manifest, plan)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
