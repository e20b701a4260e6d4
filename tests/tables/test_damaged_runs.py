"""One damaged run: it is named with its file, and nothing is lost of the others."""

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
from tests.damages import DAMAGES, OF_MANIFEST, OF_PART, OF_REQUEST, torn
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
    """Two runs; the newer one, SECOND_RUN, is to be damaged."""
    return shutil.copytree(two_runs, tmp_path / "data")


def damage(data, kind, run_id=SECOND_RUN):
    """Damages a run; returns the name of the file below the data folder."""
    return f"runs/{run_id}/{DAMAGES[kind](data / 'runs' / run_id)}"


def call(data, *words):
    return CliRunner().invoke(cli, [*words, "--data-dir", str(data)])


@pytest.mark.parametrize("kind", DAMAGES)
def test_runs_are_listed_and_the_damaged_one_is_named(data, kind):
    file = damage(data, kind)
    done = call(data, "runs", "--json")
    assert done.exit_code == 0, done.output
    second, first = json.loads(done.stdout)
    assert (first["run_id"], first["status"], first["damage"]) == (FIRST_RUN, "completed", None)
    assert second["run_id"] == SECOND_RUN
    if kind in OF_PART:  # the list reads no tables
        assert (second["status"], second["damage"]) == ("completed", None)
        return
    assert second["status"] == "damaged"
    assert second["damage"].startswith(file)
    assert (second["prompt"] is None) == (kind in OF_REQUEST)
    shown = call(data, "runs")
    assert shown.exit_code == 0
    assert "damaged" in shown.stdout
    assert f"run {SECOND_RUN} is damaged: {file}" in shown.stderr


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("words", [["results"], ["failures"], ["sql", "SELECT DISTINCT run_id FROM segments"]], ids=str)
def test_the_newest_run_that_is_not_damaged_is_the_default(data, kind, words):
    file = damage(data, kind)
    done = call(data, *words, "--json")
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
def test_a_command_on_the_damaged_run_names_its_file(data, kind, words):
    if words[0] == "run" and kind in OF_PART:
        pytest.skip("a resume writes the tables again")
    file = damage(data, kind)
    done = call(data, *words)
    assert isinstance(done.exception, RunDamaged), done.output
    assert str(done.exception).startswith(f"run {SECOND_RUN} is damaged: {file} ")


def test_a_command_on_the_damaged_run_fails_without_a_traceback(data):
    file = damage(data, "torn request")
    command = [sys.executable, "-m", "promptreel", "results", SECOND_RUN, "--data-dir", str(data)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: run {SECOND_RUN} is damaged: {file} is not readable")
    assert "Traceback" not in done.stderr


def test_rows_that_cannot_be_decoded_name_their_run(data):
    path = next((data / "runs" / FIRST_RUN / "tables" / "results").glob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[4:1500] = bytes(1496)
    path.write_bytes(content)
    for words in (["results", FIRST_RUN], ["diff", FIRST_RUN, SECOND_RUN]):
        done = call(data, *words)
        assert isinstance(done.exception, RunDamaged), (words, done.output, done.exception)
        assert FIRST_RUN in str(done.exception)


def test_a_torn_target_names_its_file(data):
    torn("media.parquet")(data / "runs" / SECOND_RUN)
    with pytest.raises(
        RunDamaged, match=rf"run {SECOND_RUN} is damaged: runs/{SECOND_RUN}/media.parquet cannot be read"
    ):
        read_target(open_storage(data), SECOND_RUN)


def test_a_request_and_a_manifest_are_read_as_they_were_written(two_runs):
    storage = open_storage(two_runs)
    manifest = committed_run(storage, FIRST_RUN).manifest
    written = json.loads((two_runs / "runs" / FIRST_RUN / "manifests" / "000001.json").read_text())
    assert [part.file for part in manifest.parts] == [part["file"] for part in written["parts"]]
    assert (manifest.run_id, manifest.counts) == (FIRST_RUN, written["counts"])
    stored = json.loads((two_runs / "runs" / FIRST_RUN / "request.json").read_text())
    assert read_request(storage, FIRST_RUN).to_dict() == stored


def test_the_error_survives_a_process_boundary():
    error = RunDamaged("run_a", "runs/run_a/request.json", "is empty")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.run_id, again.file) == (str(error), "run_a", "runs/run_a/request.json")


# ------------------------------------------------------------------------------------------------ service


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ApiServer(tmp_path_factory.mktemp("service"), supervise=False) as server:
        yield server


class Scene:
    """An index with two runs over one item; `damaged` is the newer one."""

    def __init__(self, server, kind):
        self.caller = server.caller()
        catalogue = Catalogue(server, self.caller.account_id)
        self.index_id = catalogue.index()
        self.video_id = catalogue.video(self.index_id)
        answers = {self.video_id: [{"summary": "a crane"}, None, {"summary": "a crane again"}]}
        self.whole = catalogue.run(answers, index_id=self.index_id)
        self.damaged = catalogue.run(answers, index_id=self.index_id, cut="b")
        self.file = f"runs/{self.damaged}/{DAMAGES[kind](server.data / 'runs' / self.damaged)}"

    def warned(self, response):
        """Whether a response says what it leaves out."""
        header = response.headers.get("X-Search-Warning", "")
        return self.damaged in header and self.file in header


@pytest.fixture(params=DAMAGES)
def scene(server, request):
    return Scene(server, request.param), request.param


def test_searches_leave_a_damaged_run_out_and_say_so(scene):
    scene, _ = scene
    for path, body in (
        (f"/indexes/{scene.index_id}/search", {"query": "crane"}),
        (f"/indexes/{scene.index_id}/multimodal-search", {"text_query": "crane"}),
        ("/search/multi-run", {"query": "crane", "index_id": scene.index_id}),
    ):
        response = scene.caller.post(path, body)
        assert {hit["run_id"] for hit in ok_json(response)} == {scene.whole}, path
        assert scene.warned(response), (path, response.headers)


def test_sql_leaves_a_damaged_run_out_and_says_so(scene):
    scene, _ = scene
    catalog = scene.caller.post(f"/search/sql/{scene.index_id}/catalog", {})
    assert ok_json(catalog)["run_ids"] == [scene.whole]
    rows = scene.caller.post(f"/search/sql/{scene.index_id}", {"query": "SELECT DISTINCT run_id FROM segments"})
    assert ok_json(rows)["rows"] == [{"run_id": scene.whole}]
    assert scene.warned(catalog)
    assert scene.warned(rows)


def test_a_filter_leaves_a_run_without_readable_tables_out_and_says_so(scene):
    scene, kind = scene
    body = {"conditions": [{"field": "summary", "type": "string", "operator": "equals", "value": "a crane"}]}
    response = scene.caller.post(f"/search/filter/{scene.index_id}", body)
    hits = {hit["run_id"] for hit in ok_json(response)["results"]}
    if kind in OF_REQUEST:  # a filter reads the prompt in the database
        assert hits == {scene.damaged}
    else:
        assert hits == ({scene.whole} if kind in OF_MANIFEST else set())
        assert scene.warned(response)


def test_a_named_run_that_is_damaged_is_an_error_that_names_it(scene):
    scene, kind = scene
    condition = {"field": "summary", "type": "string", "operator": "equals", "value": "a crane"}
    named = {"run_ids": [scene.damaged, scene.whole]}
    asked = [
        (f"/indexes/{scene.index_id}/search", {"query": "crane", **named}),
        ("/search/multi-run", {"query": "crane", **named}),
        (f"/search/sql/{scene.index_id}/catalog", named),
        (f"/search/sql/{scene.index_id}", {"query": "SELECT 1", **named}),
    ]
    if kind not in OF_REQUEST:
        asked.append((f"/search/filter/{scene.index_id}", {"conditions": [condition], **named}))
    for path, body in asked:
        error = assert_error(scene.caller.post(path, body), 409, "run_damaged")
        assert error["details"] == {"run_id": scene.damaged, "file": scene.file}
        assert scene.file in error["message"]


def test_an_item_and_its_other_run_stay_readable(scene):
    scene, kind = scene
    video = ok_json(scene.caller.get(f"/videos/{scene.video_id}"))
    assert [status["run_id"] for status in video["processing_status"]] == [scene.damaged, scene.whole]
    statuses = ok_json(scene.caller.post("/videos/batch/status", {"video_ids": [scene.video_id]}))
    assert len(statuses[0]["processing_status"][1]["segments"]) == 3
    segments = ok_json(scene.caller.post("/videos/batch/segments", {"video_ids": [scene.video_id]}))
    assert (segments[0]["run_id"], len(segments[0]["segments"])) == (scene.damaged, 0 if kind not in OF_REQUEST else 3)
    path = f"/prompt-runs/{scene.whole}/results?video_id={scene.video_id}"
    assert len(ok_json(scene.caller.get(path))["data"]) == 3
    assert {run["run_id"] for run in ok_json(scene.caller.get("/prompt-runs"))} == {scene.whole, scene.damaged}
    if kind not in OF_REQUEST:
        page = scene.caller.get(f"/prompt-runs/{scene.damaged}/results?video_id={scene.video_id}")
        assert_error(page, 409, "run_damaged")
        assert_error(
            scene.caller.get(f"/prompt-runs/{scene.whole}/diff?other_run_id={scene.damaged}"), 409, "run_damaged"
        )


def test_a_run_that_is_restored_is_searched_again(server):
    scene = Scene(server, "torn manifest")
    path = f"/indexes/{scene.index_id}/search"
    assert scene.warned(scene.caller.post(path, {"query": "crane"}))
    good = json.loads((server.data / "runs" / scene.whole / "manifests" / "000001.json").read_text())
    shutil.copytree(server.data / "runs" / scene.whole / "tables", server.data / "runs" / scene.damaged / "tables",
                    dirs_exist_ok=True)  # fmt: skip
    restored = json.dumps({**good, "run_id": scene.damaged})
    (server.data / scene.file).write_text(restored)
    response = scene.caller.post(path, {"query": "crane"})
    assert {hit["run_id"] for hit in ok_json(response)} == {scene.whole, scene.damaged}
    assert "X-Search-Warning" not in response.headers or not scene.warned(response)


def test_a_large_block_of_a_damaged_run_names_the_file(data, monkeypatch):
    monkeypatch.setattr("promptreel.api.search.library.LARGE_ROWS", 1)  # each block is made by a process of its own
    file = damage(data, "torn part", FIRST_RUN)
    library = SearchLibrary(open_storage(data))
    try:
        with pytest.raises(RunDamaged, match=file):
            library.indexes([Committed(FIRST_RUN, 1)])
    finally:
        library.stop()
