"""`promptreel.open_run`: the tables of a run in Python."""

import subprocess
import sys

import pytest

import promptreel
from promptreel.schemas.errors import InvalidInput, RunError, RunNotFound
from promptreel.schemas.table_rows import TABLES
from promptreel.tables.reader import committed_run
from promptreel.tables.storage import open_storage
from tests.synthetic_runs import commit, make_run
from tests.tables.run_tables import RUN, create_run

ANSWERS = {"v": [{"summary": "one"}, {"summary": "two"}, None]}


@pytest.fixture
def made(tmp_path):
    return tmp_path, make_run(open_storage(tmp_path), ANSWERS)


def test_tables_and_sql_have_the_rows_of_the_command_line(made):
    data, run_id = made
    with promptreel.open_run(run_id, data_dir=data) as run:
        assert (run.run_id, run.status, run.manifest) == (run_id, "completed", 1)
        assert set(run.tables) == {*TABLES, "fields"}
        assert all(run.table(name).arrow().num_rows >= 0 for name in run.tables)
        assert sorted(run.table("fields").arrow()["summary"].to_pylist()) == ["one", "two"]
        assert run.sql("SELECT count(*) AS n FROM segments").to_pylist() == [{"n": 3}]
        with pytest.raises(InvalidInput, match="no table 'result'; a run has media, segments"):
            run.table("result")
        with pytest.raises(InvalidInput, match="exactly one SELECT"):
            run.sql("DELETE FROM media")


def test_only_files_of_the_newest_manifest_are_read(made):
    data, run_id = made
    storage = open_storage(data)
    first = promptreel.open_run(run_id, data_dir=data)
    commit(storage, run_id, {"v": [{"summary": "new"}]}, attempt=2)
    parts = list((data / "runs" / run_id / "parts" / "results").glob("*.parquet"))
    assert len(parts) == 2  # a pattern over the folder would count answers twice
    with promptreel.open_run(run_id, data_dir=data) as second:
        assert second.table("results").arrow().num_rows == 1
        assert second.manifest == committed_run(storage, run_id).manifest.number == 2
        with pytest.raises(InvalidInput):
            second.sql(f"SELECT * FROM read_parquet('{parts[0].parent}/*.parquet')")
    assert first.table("results").arrow().num_rows == 2
    first.close()


def test_default_data_folder_is_that_of_the_command_line(made, monkeypatch):
    data, run_id = made
    monkeypatch.setenv("PROMPTREEL_DATA", str(data))
    with promptreel.open_run(run_id) as run:
        assert run.table("media").arrow()["name"].to_pylist() == ["v.mp4"]


def test_unknown_and_uncommitted_runs_are_rejected(tmp_path):
    with pytest.raises(RunNotFound):
        promptreel.open_run("run_none", data_dir=tmp_path)
    create_run(open_storage(tmp_path))
    with pytest.raises(RunError, match="has not committed a table yet"):
        promptreel.open_run(RUN, data_dir=tmp_path)


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_data_frames_have_the_rows_of_the_table(made, package):
    pytest.importorskip(package)
    data, run_id = made
    with promptreel.open_run(run_id, data_dir=data) as run:
        frame = getattr(run.table("fields"), f"to_{package}")()
    assert sorted(frame["summary"]) == ["one", "two"]
    assert frame.shape[0] == 2


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_missing_data_frame_package_is_named(made, monkeypatch, package):
    data, run_id = made
    monkeypatch.setitem(sys.modules, package, None)
    with promptreel.open_run(run_id, data_dir=data) as run:
        rows = run.table("fields")
        with pytest.raises(ImportError, match=f"to_{package} needs {package}, which is not installed"):
            getattr(rows, f"to_{package}")()


def test_import_needs_no_table_library(tmp_path):
    code = """
import sys
for name in ("pyarrow", "duckdb", "fsspec"):
    sys.modules[name] = None
import promptreel
from promptreel import open_run, PromptReel
try:
    open_run("run_a", data_dir=sys.argv[1])
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert "which is not installed; run: pip install 'promptreel[run]'" in done.stdout
