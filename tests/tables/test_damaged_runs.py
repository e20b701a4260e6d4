"""A damaged run is reported with its file, and other runs stay usable."""

import json
import pickle
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from promptreel.api.search.library import Committed, SearchLibrary
from promptreel.cli.main import cli
from promptreel.schemas.errors import RunDamaged
from promptreel.tables.reader import committed_run
from promptreel.tables.request import read_request, read_target
from promptreel.tables.storage import open_storage
from tests.api_server import ApiServer, assert_error, ok_json
from tests.damages import DAMAGES, MANIFEST_DAMAGES, PART_DAMAGES, REQUEST_DAMAGES, truncated
from tests.pipeline_runs import CHECKOUT
from tests.sql_runs import FIRST_RUN, SECOND, SECOND_RUN, commit_run, second_fields
from tests.synthetic_runs import Catalogue

# ------------------------------------------------------------------------------------------------ command line


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    data = tmp_path_factory.mktemp("runs") / "data"
    commit_run(data, FIRST_RUN)
    commit_run(data, SECOND_RUN, SECOND, second_fields)
    return data


@pytest.fixture
def data(two_runs, tmp_path):
    """Two runs; the tests damage the newer one, SECOND_RUN."""
    return shutil.copytree(two_runs, tmp_path / "data")


def damage(data, kind, run_id=SECOND_RUN):
    """Damage a run; return the file name relative to the data folder."""
    return f"runs/{run_id}/{DAMAGES[kind](data / 'runs' / run_id)}"


def invoke(data, *words):
    return CliRunner().invoke(cli, [*words, "--data-dir", str(data)])


@pytest.mark.parametrize("kind", DAMAGES)
def test_list_of_runs_reports_the_damaged_one(data, kind):
    file = damage(data, kind)
    done = invoke(data, "runs", "--json")
    assert done.exit_code == 0, done.output
    second, first = json.loads(done.stdout)
    assert (first["run_id"], first["status"], first["damage"]) == (FIRST_RUN, "completed", None)
    assert second["run_id"] == SECOND_RUN
    if kind in PART_DAMAGES:  # the list does not read tables
        assert (second["status"], second["damage"]) == ("completed", None)
        return
    assert second["status"] == "damaged"
    assert second["damage"].startswith(file)
    assert (second["prompt"] is None) == (kind in REQUEST_DAMAGES)
    listed = invoke(data, "runs")
    assert listed.exit_code == 0
    assert "damaged" in listed.stdout
    assert f"run {SECOND_RUN} is damaged: {file}" in listed.stderr


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("words", [["results"], ["failures"], ["sql", "SELECT DISTINCT run_id FROM segments"]], ids=str)
def test_default_is_the_newest_undamaged_run(data, kind, words):
    file = damage(data, kind)
    done = invoke(data, *words, "--json")
    assert done.exit_code == 0, done.output
    assert {row["run_id"] for row in json.loads(done.stdout)} == {FIRST_RUN}
    assert f"run {SECOND_RUN} is damaged: {file}" in done.stderr


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize(
    "words",
    [
        ["results", SECOND_RUN],
        ["failures", SECOND_RUN],
        ["sql", "SELECT 1", "--run", FIRST_RUN, "--run", SECOND_RUN],
        ["diff", FIRST_RUN, SECOND_RUN],
        ["run", "--resume", SECOND_RUN],
    ],
    ids=lambda words: words[0],
)
def test_command_on_damaged_run_reports_its_file(data, kind, words):
    if words[0] == "run" and kind in PART_DAMAGES:
        pytest.skip("a resume rewrites the tables")
    file = damage(data, kind)
    done = invoke(data, *words)
    assert isinstance(done.exception, RunDamaged), done.output
    assert str(done.exception).startswith(f"run {SECOND_RUN} is damaged: {file} ")


def test_command_on_damaged_run_fails_without_traceback(data):
    file = damage(data, "truncated request")
    command = [sys.executable, "-m", "promptreel", "results", SECOND_RUN, "--data-dir", str(data)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: run {SECOND_RUN} is damaged: {file} is not readable")
    assert "Traceback" not in done.stderr


def test_undecodable_rows_are_reported_with_their_run(data):
    path = next((data / "runs" / FIRST_RUN / "parts" / "results").glob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[4:1500] = bytes(1496)
    path.write_bytes(content)
    for words in (["results", FIRST_RUN], ["diff", FIRST_RUN, SECOND_RUN]):
        done = invoke(data, *words)
        assert isinstance(done.exception, RunDamaged), (words, done.output, done.exception)
        assert FIRST_RUN in str(done.exception)


def test_truncated_target_is_reported_with_its_file(data):
    truncated("media.parquet")(data / "runs" / SECOND_RUN)
    with pytest.raises(
        RunDamaged, match=rf"run {SECOND_RUN} is damaged: runs/{SECOND_RUN}/media.parquet cannot be read"
    ):
        read_target(open_storage(data), SECOND_RUN)


def test_undamaged_request_and_manifest_are_loaded_as_written(two_runs):
    storage = open_storage(two_runs)
    manifest = committed_run(storage, FIRST_RUN).manifest
    written = json.loads((two_runs / "runs" / FIRST_RUN / "manifests" / "000001.json").read_text())
    assert [part.file for part in manifest.parts] == [part["file"] for part in written["parts"]]
    assert (manifest.run_id, manifest.counts) == (FIRST_RUN, written["counts"])
    stored = json.loads((two_runs / "runs" / FIRST_RUN / "request.json").read_text())
    assert read_request(storage, FIRST_RUN).to_dict() == stored


def test_error_can_be_pickled():
    error = RunDamaged("run_a", "runs/run_a/request.json", "is empty")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.run_id, again.file) == (str(error), "run_a", "runs/run_a/request.json")


# ------------------------------------------------------------------------------------------------ service


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ApiServer(tmp_path_factory.mktemp("service"), supervise=False) as server:
        yield server


class Scene:
    """An index with two runs over one item; the newer one, `damaged`, is damaged."""

    def __init__(self, server, kind):
        self.caller = server.caller()
        catalogue = Catalogue(server, self.caller.account_id)
        self.index_id = catalogue.index()
        self.video_id = catalogue.video(self.index_id)
        answers = {self.video_id: [{"summary": "a crane"}, None, {"summary": "a crane again"}]}
        self.intact = catalogue.run(answers, index_id=self.index_id)
        self.damaged = catalogue.run(answers, index_id=self.index_id, cut="b")
        self.file = f"runs/{self.damaged}/{DAMAGES[kind](server.data / 'runs' / self.damaged)}"

    def has_warning(self, response):
        """Whether the response warns about the damaged run and its file."""
        header = response.headers.get("X-Search-Warning", "")
        return self.damaged in header and self.file in header


@pytest.fixture(params=DAMAGES)
def scene(server, request):
    return Scene(server, request.param), request.param


def test_search_skips_damaged_run_with_a_warning(scene):
    scene, _ = scene
    for path, body in (
        (f"/indexes/{scene.index_id}/search", {"query": "crane"}),
        (f"/indexes/{scene.index_id}/multimodal-search", {"text_query": "crane"}),
        ("/search/multi-run", {"query": "crane", "index_id": scene.index_id}),
    ):
        response = scene.caller.post(path, body)
        assert {hit["run_id"] for hit in ok_json(response)} == {scene.intact}, path
        assert scene.has_warning(response), (path, response.headers)


def test_sql_skips_damaged_run_with_a_warning(scene):
    scene, _ = scene
    catalog = scene.caller.post(f"/search/sql/{scene.index_id}/catalog", {})
    assert ok_json(catalog)["run_ids"] == [scene.intact]
    rows = scene.caller.post(f"/search/sql/{scene.index_id}", {"query": "SELECT DISTINCT run_id FROM segments"})
    assert ok_json(rows)["rows"] == [{"run_id": scene.intact}]
    assert scene.has_warning(catalog)
    assert scene.has_warning(rows)


def test_filter_skips_unreadable_run_with_a_warning(scene):
    scene, kind = scene
    body = {"conditions": [{"field": "summary", "type": "string", "operator": "equals", "value": "a crane"}]}
    response = scene.caller.post(f"/search/filter/{scene.index_id}", body)
    hits = {hit["run_id"] for hit in ok_json(response)["results"]}
    if kind in REQUEST_DAMAGES:  # a filter reads the prompt from the database
        assert hits == {scene.damaged}
    else:
        assert hits == ({scene.intact} if kind in MANIFEST_DAMAGES else set())
        assert scene.has_warning(response)


def test_explicitly_selected_damaged_run_is_an_error(scene):
    scene, kind = scene
    condition = {"field": "summary", "type": "string", "operator": "equals", "value": "a crane"}
    selection = {"run_ids": [scene.damaged, scene.intact]}
    requests = [
        (f"/indexes/{scene.index_id}/search", {"query": "crane", **selection}),
        ("/search/multi-run", {"query": "crane", **selection}),
        (f"/search/sql/{scene.index_id}/catalog", selection),
        (f"/search/sql/{scene.index_id}", {"query": "SELECT 1", **selection}),
    ]
    if kind not in REQUEST_DAMAGES:
        requests.append((f"/search/filter/{scene.index_id}", {"conditions": [condition], **selection}))
    for path, body in requests:
        error = assert_error(scene.caller.post(path, body), 409, "run_damaged")
        assert error["details"] == {"run_id": scene.damaged, "file": scene.file}
        assert scene.file in error["message"]


def test_item_and_its_other_run_stay_readable(scene):
    scene, kind = scene
    video = ok_json(scene.caller.get(f"/videos/{scene.video_id}"))
    assert [status["run_id"] for status in video["processing_status"]] == [scene.damaged, scene.intact]
    statuses = ok_json(scene.caller.post("/videos/batch/status", {"video_ids": [scene.video_id]}))
    assert len(statuses[0]["processing_status"][1]["segments"]) == 3
    segments = ok_json(scene.caller.post("/videos/batch/segments", {"video_ids": [scene.video_id]}))
    assert (segments[0]["run_id"], len(segments[0]["segments"])) == (
        scene.damaged,
        0 if kind not in REQUEST_DAMAGES else 3,
    )
    path = f"/prompt-runs/{scene.intact}/results?video_id={scene.video_id}"
    assert len(ok_json(scene.caller.get(path))["data"]) == 3
    assert {run["run_id"] for run in ok_json(scene.caller.get("/prompt-runs"))} == {scene.intact, scene.damaged}
    if kind not in REQUEST_DAMAGES:
        page = scene.caller.get(f"/prompt-runs/{scene.damaged}/results?video_id={scene.video_id}")
        assert_error(page, 409, "run_damaged")
        assert_error(
            scene.caller.get(f"/prompt-runs/{scene.intact}/diff?other_run_id={scene.damaged}"), 409, "run_damaged"
        )


def test_restored_run_is_searchable_again(server):
    scene = Scene(server, "truncated manifest")
    path = f"/indexes/{scene.index_id}/search"
    assert scene.has_warning(scene.caller.post(path, {"query": "crane"}))
    good = json.loads((server.data / "runs" / scene.intact / "manifests" / "000001.json").read_text())
    shutil.copytree(server.data / "runs" / scene.intact / "parts", server.data / "runs" / scene.damaged / "parts",
                    dirs_exist_ok=True)  # fmt: skip
    restored = json.dumps({**good, "run_id": scene.damaged})
    (server.data / scene.file).write_text(restored)
    response = scene.caller.post(path, {"query": "crane"})
    assert {hit["run_id"] for hit in ok_json(response)} == {scene.intact, scene.damaged}
    assert "X-Search-Warning" not in response.headers or not scene.has_warning(response)


def test_large_search_block_reports_the_damaged_file(data, monkeypatch):
    monkeypatch.setattr("promptreel.api.search.library.LARGE_ROWS", 1)  # build each block in a separate process
    file = damage(data, "truncated part", FIRST_RUN)
    library = SearchLibrary(open_storage(data))
    try:
        with pytest.raises(RunDamaged, match=file):
            library.indexes([Committed(FIRST_RUN, 1)])
    finally:
        library.stop()
