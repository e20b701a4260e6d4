"""`tables.sql` in a plain DuckDB: from any folder, after the run folder was moved, and beside that of another run."""

import os

import duckdb
import pytest

from promptreel.tables import layout
from promptreel.tables.reader import committed_run
from promptreel.tables.run_views import write_views
from promptreel.tables.storage import open_storage
from tests.pipeline_runs import CHECKOUT
from tests.synthetic_runs import commit, make_run


def write_run(data, summaries, run_id=None):
    """Commit a run with `tables.sql`; return its folder."""
    storage = open_storage(data)
    run_id = make_run(storage, {"v": [{"summary": summary} for summary in summaries]}, run_id=run_id)
    run = committed_run(storage, run_id)
    write_views(storage, run.prompt, run.manifest)
    return data / layout.run_folder(run_id)


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "it's my data", ["one", "two"])


def summaries(folder, view="fields", before=""):
    with duckdb.connect() as connection:
        connection.execute(before)
        connection.execute((folder / "tables.sql").read_text())
        rows = connection.execute(f'SELECT summary FROM "{view}" ORDER BY 1').fetchall()
        assert connection.execute("SELECT count(*) FROM results").fetchone() == (len(rows),)
    return [row[0] for row in rows]


def test_views_work_from_another_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert summaries(folder) == ["one", "two"]
    assert summaries(folder, folder.name) == ["one", "two"]


def test_views_of_a_moved_folder_work_inside_it(folder, tmp_path, monkeypatch):
    moved = tmp_path / "moved"
    os.rename(folder, moved)
    monkeypatch.chdir(moved)
    assert summaries(moved) == ["one", "two"]


def test_views_of_a_moved_folder_work_elsewhere_with_its_path(folder, tmp_path, monkeypatch):
    moved = tmp_path / "moved"
    os.rename(folder, moved)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(duckdb.IOException, match=r"it's my data"):
        summaries(moved)
    line = f"SET VARIABLE \"{folder.name}\" = '{moved}'"
    assert line.split(" = ")[0] in (moved / "tables.sql").read_text()  # the file says how
    assert summaries(moved, before=line) == ["one", "two"]


def test_folder_of_another_run_is_not_mistaken_for_it(folder, tmp_path, monkeypatch):
    other = write_run(tmp_path / "other", ["three"], "run_other")
    monkeypatch.chdir(other)
    assert summaries(folder) == ["one", "two"]


def test_views_of_two_runs_in_one_session(folder, tmp_path, monkeypatch):
    other = write_run(tmp_path / "other", ["three"], "run_other")
    monkeypatch.chdir(tmp_path)
    with duckdb.connect() as connection:
        for part in (folder, other):
            connection.execute((part / "tables.sql").read_text())
        for name, expected in ((folder.name, ["one", "two"]), ("run_other", ["three"])):
            rows = connection.execute(f'SELECT summary FROM "{name}" ORDER BY 1').fetchall()
            assert [row[0] for row in rows] == expected


def test_views_name_only_parts_of_the_newest_manifest(folder, tmp_path, monkeypatch):
    storage = open_storage(folder.parent.parent)
    commit(storage, folder.name, {"v": [{"summary": "new"}]}, attempt=2)
    run = committed_run(storage, folder.name)
    write_views(storage, run.prompt, run.manifest)
    monkeypatch.chdir(tmp_path)
    assert summaries(folder) == ["new"]


def test_documentation_shows_no_pattern_over_part_files():
    for page in [CHECKOUT / "README.md", CHECKOUT / "ARCHITECTURE.md", *(CHECKOUT / "docs").glob("*.md")]:
        assert "*.parquet" not in page.read_text(), page
