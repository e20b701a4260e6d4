"""Views name the item beside its id, and give a path that resolves for the file of a frame."""

import json
import shutil
from pathlib import Path

import duckdb
import pytest

from promptreel.schemas.prompt import prompt_from_dict
from promptreel.tables.analyst_views import analyst_views, connect_views
from promptreel.tables.diff import RunDiff
from promptreel.tables.reader import committed_run, connect
from promptreel.tables.storage import ObjectStorage, open_storage
from promptreel.tables.view_columns import run_columns
from tests.pipeline_runs import make_image, make_video, promptreel, run_media, settings_for

NAMED = prompt_from_dict(
    {
        "name": "named",
        "prompt_text": "Measure the segment.",
        "json_schema": {"type": "object", "properties": {"duration_seconds": {"type": "number"}}},
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder with a run over a film and an image; the paths of both runs, whose prompts differ."""
    folder = tmp_path_factory.mktemp("named")
    make_video(folder / "media" / "it's a.mp4", seconds=2)
    make_image(folder / "media" / "b.png")
    run_media(folder / "data", folder / "media", settings_for(), NAMED)
    return folder


@pytest.fixture(scope="module")
def runs(folder):
    storage = open_storage(folder / "data")
    run_id = next(path.name for path in (folder / "data" / "runs").iterdir())
    return storage, [committed_run(storage, run_id)]


def columns_of(connection, relation):
    return [name for name, *_ in connection.execute(f'DESCRIBE "{relation}"').fetchall()]


def pairs(connection, relation):
    return set(connection.execute(f'SELECT video_id, video_name FROM "{relation}"').fetchall())


def test_views_have_the_name_after_the_id(runs):
    storage, [run] = runs
    with connect_views(storage, [run]) as connection:
        media = set(connection.execute("SELECT video_id, name FROM media").fetchall())
        assert {name for _, name in media} == {"it's a.mp4", "b.png"}
        for view in (run.run_id, "fields", "segments", "results", "current_results", "current_fields"):
            names = columns_of(connection, view)
            assert names[names.index("video_id") + 1] == "video_name", view
            assert pairs(connection, view) == media, view
        assert "name" in columns_of(connection, "failures")
    with connect(storage, run) as connection:
        assert pairs(connection, "fields") == pairs(connection, run.run_id) == media


def test_field_called_name_stays_a_column_of_that_name():
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    prompt = prompt_from_dict({"name": "named", "prompt_text": "Name the segment.", "json_schema": schema})
    assert [column.name for column in run_columns(prompt) if column.field_path] == ["name"]


def test_catalog_describes_the_columns_of_the_views(runs):
    storage, selected = runs
    with connect_views(storage, selected) as connection:
        for view in analyst_views(storage, selected, include_uris=True).views:
            assert columns_of(connection, view.name) == [column.name for column in view.columns], view.name


def test_names_do_not_change_the_number_of_rows(runs):
    storage, [run] = runs
    with connect_views(storage, [run]) as connection:
        for table in ("results", "segments"):
            [(count,)] = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
            assert count == run.manifest.rows_of(table)


def test_path_of_a_frame_resolves(runs):
    storage, [run] = runs
    for connection in (connect(storage, run), connect_views(storage, [run])):
        with connection:
            paths = [Path(path) for (path,) in connection.execute("SELECT path FROM frames").fetchall()]
        assert len(paths) > 1
        assert all(path.read_bytes().startswith(b"\xff\xd8") for path in paths)


def test_path_follows_a_moved_data_folder(folder, runs, tmp_path):
    _, [run] = runs
    moved = tmp_path / "it's moved"
    shutil.copytree(folder / "data", moved)
    with connect_views(open_storage(moved), [committed_run(open_storage(moved), run.run_id)]) as connection:
        paths = [Path(path) for (path,) in connection.execute("SELECT path FROM frames").fetchall()]
    assert paths
    assert all(path.is_relative_to(moved) and path.is_file() for path in paths)


def test_path_in_an_object_store_is_a_url(folder, runs):
    _, [run] = runs
    storage = ObjectStorage("memory://frames-with-paths")
    for path in (folder / "data" / "runs").rglob("*"):
        if path.is_file():
            storage.write_atomic(path.relative_to(folder / "data").as_posix(), path.read_bytes())
    with connect_views(storage, [committed_run(storage, run.run_id)]) as connection:
        rows = connection.execute("SELECT file, path FROM frames").fetchall()
    assert rows
    assert all(path == f"memory://frames-with-paths/{file}" for file, path in rows)


def test_callers_of_the_service_see_no_path(runs):
    storage, selected = runs
    for view in analyst_views(storage, selected).views:
        assert "path" not in [column.name for column in view.columns], view.name


def test_script_of_a_run_has_names_and_paths(folder, runs, monkeypatch):
    _, [run] = runs
    monkeypatch.chdir(folder / "data" / "runs" / run.run_id)
    with duckdb.connect() as connection:
        connection.execute(Path("tables.sql").read_text())
        assert {name for _, name in pairs(connection, "fields")} == {"it's a.mp4", "b.png"}
        assert all(Path(path).is_file() for (path,) in connection.execute("SELECT path FROM frames").fetchall())


def test_diff_names_the_items(folder, runs):
    storage, [run] = runs
    rows = [change for _, change in RunDiff(storage, run, run).rows(include_same=True)]
    assert {row.video_name for row in rows} <= {"it's a.mp4", "b.png"}
    code, out, err = promptreel("diff", run.run_id, run.run_id, "--same", "--json", "--data-dir", folder / "data")
    assert code == 0, err
    found = json.loads(out)["changes"]
    assert len(found) == len(rows)
    assert all(list(row)[:2] == ["video_id", "video_name"] for row in found)
