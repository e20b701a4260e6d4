"""The search index: built only from committed tables, rebuilt when damaged, without blocking queries."""

import json
import os
import threading

import numpy as np
import pytest

from promptreel.api.search import library as library_module
from promptreel.api.search.block import MARKER, open_block
from promptreel.api.search.build import SHARDS_PER_BLOCK, plan_blocks
from promptreel.api.search.library import Committed, SearchLibrary
from promptreel.api.web.errors import ApiError
from promptreel.providers.text_embedding import WordLlamaEmbedder, texts_of
from promptreel.schemas.errors import RunDamaged, StorageError
from promptreel.schemas.field_paths import render_text
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables.layout import run_folder
from promptreel.tables.manifest import newest_manifest, read_manifest
from promptreel.tables.parts import shard_writer
from promptreel.tables.shards import shard_of
from promptreel.tables.storage import open_storage
from promptreel.tables.table_schemas import table_schemas
from tests.pipeline_runs import wait_for
from tests.search_runs import SCENES, Segment, commit_results, segment_id

RUN = "run_a"
FILMS = {
    "vid_a": [Segment(summary="a dog", tags=["x", "dog"]), Segment(summary="a cat", transcript="meow it says")],
    "vid_b": [Segment(summary="a dog")],
}


@pytest.fixture
def make_library():
    """Create libraries that are stopped after the test."""
    libraries = []

    def make(storage, **options):
        libraries.append(SearchLibrary(storage, **options))
        return libraries[-1]

    yield make
    for library in libraries:
        library.stop()


def summaries(index):
    """Return the summary of each segment of an index."""
    rows = [row for block in index.blocks for row in block.rows.to_pylist()]
    return {row["segment_id"]: json.loads(row["metadata"])["summary"] for row in rows if row["segment_id"]}


def newest(library, number=1):
    return library.indexes([Committed(RUN, number)])[0]


def expected_summaries(films):
    return {segment_id(v, n): part.metadata["summary"] for v, parts in films.items() for n, part in enumerate(parts)}


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_index_contains_all_rows_and_texts(tmp_path, make_library, kind):
    storage = open_storage(tmp_path if kind == "local" else f"memory://{tmp_path.name}")
    commit_results(storage, RUN, FILMS, topics={"vid_a": "pets"})
    (block,) = newest(make_library(storage)).blocks
    rows = block.rows.to_pylist()
    assert [(row["video_id"], row["segment_id"], row["start_us"]) for row in rows] == [
        ("vid_a", segment_id("vid_a", 0), 0),
        ("vid_a", segment_id("vid_a", 1), 10_000_000),
        ("vid_a", None, None),
        ("vid_b", segment_id("vid_b", 0), 0),
    ]
    assert [row["transcript"] for row in rows] == [None, "meow it says", None, None]
    texts = [
        (int(row_number), block.fields[field], row["instance"], row["preview"])
        for row_number, field, row in zip(block.text_rows, block.text_fields, block.texts.to_pylist(), strict=True)
    ]
    expected = []
    for row_number, part in ((0, FILMS["vid_a"][0]), (1, FILMS["vid_a"][1]), (3, FILMS["vid_b"][0])):
        contents = render_text(part.metadata, SCENES.leaves)
        found = texts_of(part.metadata, contents, part.transcript, SCENES.leaves)
        expected += [(row_number, text.field, text.instance, text.text) for text in found]
    expected += [(2, "topic", "topic", "pets"), (2, "metadata_text", "metadata_text", "topic: pets")]
    assert sorted(texts) == sorted(expected)
    (group,) = block.groups["text"]
    embedder = WordLlamaEmbedder()
    assert group.model == embedder.name
    contents = [text for *_, text in texts]
    np.testing.assert_allclose(
        group.vectors[group.vector_indices], embedder.embed([contents[member] for member in group.members]), atol=1e-6
    )
    assert len(group.vectors) == len(set(contents))  # equal texts share a vector
    assert dict(block.items) == {"vid_a": (0, 3), "vid_b": (3, 4)}


def test_disabled_fields_are_in_no_text_of_the_index(tmp_path, make_library):
    disabled = {"disabled_segment_fields": ["secret"], "disabled_video_level_fields": ["topic"]}
    prompt = prompt_from_dict({**SCENES.to_dict(), "semantic_indexing": disabled})
    storage = open_storage(tmp_path)
    films = {"vid_a": [Segment(summary="a cat", secret="zebra")]}
    commit_results(storage, RUN, films, topics={"vid_a": "okapi"}, prompt=prompt)
    (block,) = newest(make_library(storage)).blocks
    assert [row["preview"] for row in block.texts.to_pylist()] == ["a cat", "summary: a cat"]
    assert [row["metadata_text"] for row in block.rows.to_pylist()] == ["summary: a cat\nsecret: zebra", "topic: okapi"]


def test_blocks_cover_shards_and_separate_vectors_by_model(tmp_path, make_library):
    shards = SHARDS_PER_BLOCK + 3
    films = {
        f"vid_{n:03d}": [Segment(summary=f"scene {n}", frames=[(f"clip:{n % 2}", np.eye(3)[n % 2])])] for n in range(60)
    }
    storage = open_storage(tmp_path)
    commit_results(storage, RUN, films, shards=shards)
    index = newest(make_library(storage))
    assert len(index.blocks) == 2
    assert summaries(index) == expected_summaries(films)
    for number, block in enumerate(index.blocks):
        inside = [v for v in films if (shard_of(v, shards) >= SHARDS_PER_BLOCK) == bool(number)]
        assert list(block.items) == sorted(inside)
        for group in block.groups["frame"]:
            ids = [block.rows["video_id"][int(row)].as_py() for row in group.rows]
            assert sorted(ids) == [v for v in sorted(inside) if int(v[-3:]) % 2 == int(group.model[-1])]
            assert group.vectors[group.vector_indices].tolist() == [np.eye(3)[int(group.model[-1])].tolist()] * len(ids)


def test_uncommitted_parts_are_not_indexed(tmp_path, make_library):
    storage = open_storage(tmp_path)
    manifest = commit_results(storage, RUN, FILMS)
    storage.write_atomic(f"{run_folder(RUN)}/parts/results/part-00000-stray.parquet", b"torn")
    with shard_writer(storage, RUN, 0, table_schemas(SCENES)) as writer:
        for table, row in rows_of_other_film():
            writer.write(table, row)
        writer.commit()
    assert newest_manifest(storage, RUN) == manifest
    assert summaries(newest(make_library(storage))) == expected_summaries(FILMS)


def rows_of_other_film():
    from tests.search_runs import _rows_of_item

    rows = _rows_of_item(RUN, "vid_stray", [Segment(summary="uncommitted")], SCENES, None)
    return [(table, row) for table, row in rows if table != "text_embeddings"]


# ------------------------------------------------------------------------------------------------ damage


def block_folders(data):
    return sorted(path.parent for path in data.glob(f"search/{RUN}/*/{MARKER}"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "removed"])
def test_damaged_index_is_rebuilt(tmp_path, make_library, damage):
    storage = open_storage(tmp_path)
    commit_results(
        storage,
        RUN,
        {**FILMS, "vid_c": [Segment(summary="", frames=[("clip:a", np.eye(3)[0])])]},
        topics={"vid_a": "pets"},
    )
    newest(make_library(storage))
    (folder,) = block_folders(tmp_path)
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 9
    for name in names:
        content = (folder / name).read_bytes()
        if damage == "removed":
            (folder / name).unlink()
        else:
            middle = len(content) // 2
            flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            (folder / name).write_bytes({"cut": content[:middle], "flipped": flipped, "emptied": b""}[damage])
        if name != MARKER:
            with pytest.raises(StorageError, match=name.split(".")[0]):
                open_block(folder)
        index = newest(make_library(storage))
        assert summaries(index)[segment_id("vid_a", 1)] == "a cat"
        assert sorted(path.name for path in folder.iterdir()) == names
        assert (folder / name).read_bytes() == content or name == MARKER


def test_index_with_modified_marker_is_rebuilt(tmp_path, make_library):
    storage = open_storage(tmp_path)
    commit_results(storage, RUN, FILMS)
    newest(make_library(storage))
    (folder,) = block_folders(tmp_path)
    marker = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps({**marker, "fields": marker["fields"][::-1]}))
    assert list(newest(make_library(storage)).blocks[0].fields) == marker["fields"]


def test_incomplete_index_is_not_used(tmp_path, make_library):
    storage = open_storage(tmp_path)
    manifest = commit_results(storage, RUN, FILMS)
    (plan,) = plan_blocks(manifest)
    partial = tmp_path / "search" / RUN / plan.name
    partial.mkdir(parents=True)
    (partial / "places.arrow").write_bytes(b"half")
    assert summaries(newest(make_library(storage))) == expected_summaries(FILMS)


def test_existing_index_is_not_rebuilt(tmp_path, make_library):
    storage = open_storage(tmp_path)
    commit_results(storage, RUN, FILMS)
    newest(make_library(storage))
    before = [(path, path.stat().st_ino) for path in sorted(tmp_path.glob("search/**/*"))]
    assert before
    (tmp_path / run_folder(RUN) / "parts").rename(tmp_path / "gone")
    assert summaries(newest(make_library(storage))) == expected_summaries(FILMS)
    assert [(path, path.stat().st_ino) for path in sorted(tmp_path.glob("search/**/*"))] == before


# ------------------------------------------------------------------------------------------------ commits


LATER = {**FILMS, "vid_b": [Segment(summary="a wolf")]}


def hide_parts(data, manifest, other):
    """Hide the parts that only `manifest` names, so that it cannot be indexed; return a function that restores them."""
    folder = data / run_folder(RUN)
    shared = {part.file for part in other.parts}
    moved = [folder / part.file for part in manifest.parts if part.file not in shared]
    assert moved
    for path in moved:
        path.rename(path.with_suffix(".hidden"))

    def restore():
        for path in moved:
            path.with_suffix(".hidden").rename(path)

    return restore


def test_previous_index_answers_until_new_one_is_built(tmp_path, make_library):
    storage = open_storage(tmp_path)
    commit_results(storage, RUN, FILMS)
    library = make_library(storage)
    newest(library)
    second = commit_results(storage, RUN, LATER, attempt=2)
    restore = hide_parts(tmp_path, second, read_manifest(storage, RUN, 1))
    assert summaries(newest(library, 2)) == expected_summaries(FILMS)
    again = make_library(storage)  # as in another process, or after a restart
    assert summaries(newest(again, 2)) == expected_summaries(FILMS)
    restore()
    for part in (library, again):
        wait_for(lambda part=part: newest(part, 2).number == 2, 30)
        assert summaries(newest(part, 2)) == expected_summaries(LATER)


def test_failed_build_is_reported_and_retried_by_next_query(tmp_path, make_library):
    storage = open_storage(tmp_path)
    first = commit_results(storage, RUN, FILMS)
    empty = read_manifest(storage, RUN, 1)
    restore = hide_parts(tmp_path, first, type(empty)(**{**vars(empty), "parts": ()}))
    library = make_library(storage)
    with pytest.raises(RunDamaged, match=f"run {RUN} is damaged: runs/{RUN}/parts/.* is missing"):
        newest(library)
    restore()
    assert summaries(newest(library)) == expected_summaries(FILMS)


def test_build_without_storage_is_503(tmp_path, make_library, monkeypatch):
    def fail(*arguments):
        raise StorageError("the cache is full")

    storage = open_storage(tmp_path)
    commit_results(storage, RUN, FILMS)
    library = make_library(storage)
    with monkeypatch.context() as patch:
        patch.setattr(library_module, "build_block", fail)
        with pytest.raises(ApiError, match="cannot be built") as caught:
            newest(library)
    assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (503, "search_index_unavailable", 5)
    assert summaries(newest(library)) == expected_summaries(FILMS)


def test_slow_first_build_is_503(tmp_path, make_library, monkeypatch):
    monkeypatch.setattr(library_module, "LARGE_ROWS", 0)  # a separate process takes noticeable time to start
    storage = open_storage(tmp_path)
    commit_results(storage, RUN, FILMS)
    library = make_library(storage, first_build_timeout_s=0)
    with pytest.raises(ApiError, match="first time") as caught:
        newest(library)
    assert (caught.value.status, caught.value.code) == (503, "search_index_building")


def test_separate_process_builds_identical_blocks(tmp_path, make_library, monkeypatch):
    storage = open_storage(tmp_path)
    commit_results(storage, RUN, FILMS, topics={"vid_a": "pets"})
    newest(make_library(storage))
    (folder,) = block_folders(tmp_path)
    here = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder.rename(tmp_path / "before")
    monkeypatch.setattr(library_module, "LARGE_ROWS", 0)
    newest(make_library(storage))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == here


def test_retry_rebuilds_only_its_blocks_and_purges_old_ones(tmp_path, make_library, monkeypatch):
    shards = 2 * SHARDS_PER_BLOCK
    films = {f"vid_{number:03d}": [Segment(summary=f"scene {number}")] for number in range(80)}
    storage = open_storage(tmp_path)
    commit_results(storage, RUN, films, shards=shards)
    library = make_library(storage)
    before = newest(library)
    first, second = block_folders(tmp_path)
    changed = next(v for v in films if shard_of(v, shards) == 3)
    retried = {**films, changed: [Segment(summary="a new scene")]}
    monkeypatch.setattr(library_module, "_PURGE_DELAY_S", 0.0)
    commit_results(storage, RUN, retried, shards=shards, attempt=2, only={3})
    inode = second.stat().st_ino
    wait_for(lambda: newest(library, 2).number == 2, 30)
    assert summaries(newest(library, 2)) == expected_summaries(retried)
    wait_for(lambda: not first.exists(), 30)
    assert second.stat().st_ino == inode
    assert len(block_folders(tmp_path)) == 2
    assert summaries(before) == expected_summaries(films)  # a search that uses the old index can still read it


def test_concurrent_queries_build_an_index_once(tmp_path, make_library):
    storage = open_storage(tmp_path)
    commit_results(storage, RUN, FILMS)
    library = make_library(storage)
    found = []
    threads = [threading.Thread(target=lambda: found.append(newest(library))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert all(summaries(index) == expected_summaries(FILMS) for index in found)
    assert len(block_folders(tmp_path)) == 1
    library.stop()  # a query may open a block before the builder has removed its work folder
    assert os.listdir(tmp_path / "tmp") == []


def test_more_runs_than_open_blocks_are_all_found(tmp_path, make_library, monkeypatch):
    monkeypatch.setattr(library_module, "_MAX_OPEN_BLOCKS", 2)
    storage = open_storage(tmp_path)
    runs = [f"run_{number}" for number in range(5)]
    for run_id in runs:
        commit_results(storage, run_id, {"vid_a": [Segment(summary=run_id)]}, embed=False)
    library = make_library(storage)
    for _ in range(2):
        indexes = library.indexes([Committed(run_id, 1) for run_id in runs])
        assert [next(iter(summaries(index).values())) for index in indexes] == runs


def test_index_evicted_before_its_query_looks_is_found(tmp_path, make_library, monkeypatch):
    monkeypatch.setattr(library_module, "_MAX_OPEN_BLOCKS", 2)
    storage = open_storage(tmp_path)
    runs = [f"run_{number}" for number in range(5)]
    for run_id in runs:
        commit_results(storage, run_id, {"vid_a": [Segment(summary=run_id)]}, embed=False)
    library = make_library(storage, first_build_timeout_s=5)
    wait_for = library._changed.wait_for

    def wait_until_all_are_built(predicate, timeout):
        if threading.current_thread() is threading.main_thread():
            wait_for(lambda: not any(library._queues.values()) and not library._building, 30)
        return wait_for(predicate, timeout)

    monkeypatch.setattr(library._changed, "wait_for", wait_until_all_are_built)
    indexes = library.indexes([Committed(run_id, 1) for run_id in runs])
    assert [next(iter(summaries(index).values())) for index in indexes] == runs


def test_run_without_results_has_empty_index(tmp_path, make_library):
    storage = open_storage(tmp_path)
    commit_results(storage, RUN, {})
    assert newest(make_library(storage)).blocks == ()
