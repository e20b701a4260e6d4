"""The folders `tables/` of a run contain exactly the parts of its newest manifest, so a pattern counts no row twice."""

import itertools
import json
import shutil
import sys
import uuid

import duckdb
import pytest
from click.testing import CliRunner

import promptreel
from promptreel.cli.run import run
from promptreel.pipelines.runner import execute_run
from promptreel.schemas.table_rows import TABLES
from promptreel.tables.live_parts import publish_newest, repair_published
from promptreel.tables.manifest import read_manifest
from promptreel.tables.pages import ItemRows
from promptreel.tables.part_files import part_paths
from promptreel.tables.parts import shard_writer
from promptreel.tables.retry_scope import RetryScope, target_of, write_retry
from promptreel.tables.storage import LocalStorage, open_storage
from promptreel.tables.table_schemas import table_schemas
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import (
    check_counts,
    create_run,
    make_video,
    manifest_of,
    plain_rows,
    run_media,
    settings_for,
    start,
)
from tests.pipeline_runs import (
    promptreel as command,
)
from tests.prompts import NESTED

POISON = Fault(text="Segment .*0:01.00 to 0:02.00|This segment is 0:01.00 to 0:02.00", status=400)
SEGMENTS = 4
# A runner that dies between the commit of its manifest and the publication of its parts.
KILLED_AFTER_COMMIT = """
import os, signal, sys
from promptreel.pipelines import runner
from promptreel.transforms import commit_manifest
commit_manifest.publish_newest = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
runner.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", SEGMENTS)


@pytest.fixture
def failed(tmp_path, film):
    """A run with a failed segment: (data folder, run id, service that answers everything now)."""
    with FakeGemini(faults=[POISON]) as server:
        run_id = run_media(tmp_path / "data", film, settings_for(server))
        assert manifest_of(tmp_path / "data", run_id).status == "completed_with_failures"
        server.set_faults()
        yield tmp_path / "data", run_id, server


def retry(data, run_id):
    targets = frozenset(target_of(row) for row in plain_rows(data, run_id, "failures"))
    write_retry(open_storage(data), run_id, "retry_1", RetryScope(targets))
    return execute_run(str(data), run_id, retry_id="retry_1")


def counted_rows(data, run_id):
    """Count the rows of each table with a pattern over its folder, as a user may do."""
    counts = {}
    for table in TABLES:
        folder = data / "runs" / run_id / "tables" / table
        if folder.exists() and any(folder.iterdir()):
            [(counts[table],)] = duckdb.sql(f"SELECT count(*) FROM read_parquet('{folder}/*.parquet')").fetchall()
    return counts


def rows_by_table(manifest):
    return {table: manifest.rows_of(table) for table in TABLES if manifest.parts_of(table)}


def check_published(data, run_id):
    assert counted_rows(data, run_id) == rows_by_table(manifest_of(data, run_id))
    assert f"manifest {manifest_of(data, run_id).number} of" in (data / "runs" / run_id / "tables.sql").read_text()


def segments_of(storage, manifest):
    """Return the rows of `segments` in a manifest, as a reader that has its number finds them."""
    parts = ItemRows(part_paths(storage, manifest.run_id, manifest.parts_of("segments")))
    return [row for video_id in parts.video_ids() for row in parts.of(video_id)]


def test_pattern_counts_each_row_once_after_retry_and_resume(failed):
    data, run_id, _ = failed
    check_published(data, run_id)
    assert "failures" in counted_rows(data, run_id)
    assert retry(data, run_id).number == 2
    check_published(data, run_id)
    assert "failures" not in counted_rows(data, run_id)
    assert counted_rows(data, run_id)["segments"] == SEGMENTS
    execute_run(str(data), run_id)
    check_published(data, run_id)
    check_counts(data, run_id)


def test_earlier_manifests_stay_readable(failed):
    data, run_id, _ = failed
    before = sorted(map(repr, plain_rows(data, run_id, "segments")))
    retry(data, run_id)
    storage = open_storage(data)
    first = read_manifest(storage, run_id, 1)
    assert sorted(map(repr, segments_of(storage, first))) == before
    assert {row["status"] for row in segments_of(storage, manifest_of(data, run_id))} == {"succeeded"}


def test_open_readers_keep_their_state_during_a_retry(failed):
    data, run_id, _ = failed
    with promptreel.open_run(run_id, data_dir=data) as opened:
        paths = part_paths(open_storage(data), run_id, manifest_of(data, run_id).parts_of("segments"))
        retry(data, run_id)
        statuses = opened.sql("SELECT status FROM segments").to_pylist()
        assert sorted(row["status"] for row in statuses) == ["failed", *["succeeded"] * (SEGMENTS - 1)]
        assert len(duckdb.sql(f"FROM read_parquet({[str(path) for path in paths]})").fetchall()) == SEGMENTS


def test_views_of_a_shell_survive_a_retry(failed):
    """A DuckDB session that has loaded `tables.sql` reads the state that it loaded."""
    data, run_id, _ = failed
    with duckdb.connect() as session:
        session.execute((data / "runs" / run_id / "tables.sql").read_text())
        retry(data, run_id)
        assert session.execute("SELECT count(*) FROM failures").fetchone() == (1,)


def kill_after_commit(data, run_id):
    words = ["--data-dir", str(data), "--run-id", run_id]
    child = start([sys.executable, "-c", KILLED_AFTER_COMMIT, *words])
    child.communicate(timeout=120)
    assert child.returncode == -9


def test_runner_killed_after_its_commit_leaves_the_earlier_state(failed):
    data, run_id, server = failed
    first = rows_by_table(manifest_of(data, run_id))
    kill_after_commit(data, run_id)
    assert manifest_of(data, run_id).number == 2
    assert counted_rows(data, run_id) == first
    calls = len(server.ledger.calls())
    execute_run(str(data), run_id)
    check_published(data, run_id)
    assert len(server.ledger.calls()) == calls


def test_next_attempt_publishes_before_it_works(failed, monkeypatch):
    data, run_id, _ = failed
    kill_after_commit(data, run_id)

    def fail(*arguments):
        raise RuntimeError("the attempt dies at once")

    monkeypatch.setattr("promptreel.pipelines.runner.begin_attempt", fail)
    with pytest.raises(RuntimeError):
        execute_run(str(data), run_id)
    check_published(data, run_id)


class DyingStorage(LocalStorage):
    """Dies instead of the change number `changes`."""

    def __init__(self, root, changes):
        super().__init__(root)
        self.changes = changes

    def _count(self):
        if self.changes == 0:
            raise KeyboardInterrupt
        self.changes -= 1

    def link_files(self, names):
        for name, new_name in names.items():
            self._count()
            super().link_files({name: new_name})

    def remove(self, name):
        self._count()
        super().remove(name)


def test_publication_can_die_at_every_step(failed, tmp_path):
    data, run_id, _ = failed
    kill_after_commit(data, run_id)
    counts = counted_rows(data, run_id), rows_by_table(manifest_of(data, run_id))
    for changes in itertools.count():
        copy = tmp_path / f"copy {changes}"
        shutil.copytree(data / "runs", copy / "runs")
        storage, died = DyingStorage(copy, changes), False
        try:
            publish_newest(storage, run_id)
        except KeyboardInterrupt:
            died = True
            for table, count in counted_rows(copy, run_id).items():
                assert count in {of_manifest.get(table) for of_manifest in counts}
            repair_published(open_storage(copy), run_id)
        check_published(copy, run_id)
        assert len(segments_of(storage, read_manifest(storage, run_id, 1))) == SEGMENTS
        if not died:
            break
    assert changes > 10


def test_command_publishes_what_its_dead_runner_committed(tmp_path, film, monkeypatch):
    def dying_runner(storage, run_id, **options):
        return [sys.executable, "-c", KILLED_AFTER_COMMIT, "--data-dir", storage.root, "--run-id", run_id]

    monkeypatch.setattr("promptreel.cli.run.runner_command", dying_runner)
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    with FakeGemini() as server:
        words = [film, "--base-url", server.base_url, "--data-dir", tmp_path / "data", "--json"]
        done = CliRunner().invoke(run, [str(word) for word in words])
    assert "the tables are committed, but the runner exited with an error" in done.stderr
    check_published(tmp_path / "data", json.loads(done.stdout)["run_id"])


def test_parts_of_an_unfinished_attempt_are_not_published(failed):
    data, run_id, _ = failed
    row = plain_rows(data, run_id, "segments")[0]
    with shard_writer(open_storage(data), run_id, 0, table_schemas(NESTED)) as writer:
        writer.write("segments", row)
        writer.commit()
    check_published(data, run_id)


def test_files_of_users_are_not_removed(failed):
    data, run_id, _ = failed
    note = data / "runs" / run_id / "tables" / "segments" / "note.txt"
    note.write_text("mine")
    retry(data, run_id)
    assert note.read_text() == "mine"


def with_earlier_layout(data, run_id):
    """Rewrite a run as earlier versions wrote it: parts in `tables/` only, with one of an unfinished attempt."""
    folder = data / "runs" / run_id
    shutil.rmtree(folder / "tables")
    shutil.move(folder / "parts", folder / "tables")
    for path in (folder / "manifests").glob("*.json"):
        manifest = json.loads(path.read_text())
        for part in manifest["parts"]:
            part["file"] = part["file"].replace("parts/", "tables/")
        path.write_text(json.dumps(manifest))
    [segments] = (folder / "tables" / "segments").glob("*.parquet")
    shutil.copy(segments, segments.with_name("part-00000-unfinished.parquet"))


def test_run_of_an_earlier_version_is_read_and_retried(failed):
    data, run_id, server = failed
    with_earlier_layout(data, run_id)
    assert len(plain_rows(data, run_id, "segments")) == SEGMENTS
    calls = len(server.ledger.calls())
    assert retry(data, run_id).number == 2
    assert len(server.ledger.calls()) - calls == 2  # the segment and the synthesis
    check_published(data, run_id)
    storage = open_storage(data)
    first = read_manifest(storage, run_id, 1)
    assert sorted(row["status"] for row in segments_of(storage, first)).count("failed") == 1
    code, _, err = command("results", run_id, "--data-dir", data, "--json")
    assert code == 0, err


def test_object_store_has_the_live_parts_too(film):
    data = f"memory://{uuid.uuid4().hex}"
    with FakeGemini(faults=[POISON]) as server:
        run_id = create_run(data, film, settings_for(server))
        first = execute_run(data, run_id)
        server.set_faults()
        second = execute_run(data, run_id)
    storage = open_storage(data)
    for table in TABLES:
        names = storage.list_names(f"runs/{run_id}/tables/{table}")
        assert names == sorted(part.name for part in second.parts_of(table))
    assert len(segments_of(storage, first)) == SEGMENTS
