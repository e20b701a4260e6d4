"""`promptreel runs`, `results`, `failures` and `sql` on a finished run."""

import json

from promptreel.pipelines.runner import execute_run
from promptreel.schemas.settings import RunSettings
from promptreel.tables.attempts import runner_lock
from promptreel.tables.manifest import newest_manifest
from promptreel.tables.stop_signal import request_stop
from promptreel.tables.storage import open_storage
from tests.cli.in_process import invoke
from tests.pipeline_runs import create_run, run_media, settings_for, start_promptreel
from tests.transforms.test_embed_texts import MEASURED


def test_read_commands_print_tables_and_json(finished_run):
    data, run_id, *_ = finished_run
    code, out, _ = invoke("runs", "--data-dir", data, "--json")
    (row,) = json.loads(out)
    assert (code, row["run_id"], row["status"], row["results"], row["failures"]) == (
        0, run_id, "completed_with_failures", 4, 1,
    )  # fmt: skip
    code, out, _ = invoke("results", run_id, "--data-dir", data, "--json", "--media", "a film.mp4", "--limit", 1)
    (row,) = json.loads(out)
    assert (code, row["name"], row["metadata"]["duration_seconds"]) == (0, "a film.mp4", 2.0)
    code, out, _ = invoke("results", "--video-level", "--data-dir", data)
    assert (code, "2 of 2" in out, "1 of 1" in out) == (0, True, True)
    code, out, err = invoke("results", "--media", "nothing", "--data-dir", data)
    assert (code, out) == (2, "")
    assert "no media 'nothing'" in err
    code, out, _ = invoke("failures", "--data-dir", data, "--json")
    assert (code, [(row["name"], row["code"]) for row in json.loads(out)]) == (0, [("d.mp4", "media_unsupported")])
    code, out, _ = invoke("failures", "--data-dir", data)
    assert (code, "d.mp4" in out) == (0, True)


def test_sql_json_has_numbers_as_numbers(finished_run):
    data, *_ = finished_run
    values = "sum(segment_count) AS s, 1.25::DECIMAL(5,2) AS d, 'ab'::BLOB AS b, DATE '2026-01-02' AS t"
    statement = f"SELECT {values} FROM media"
    code, out, _ = invoke("sql", statement, "--data-dir", data, "--json")
    assert (code, json.loads(out)) == (0, [{"s": 4, "d": 1.25, "b": "YWI=", "t": "2026-01-02"}])


def test_sql_rejects_everything_except_one_select(finished_run):
    data, run_id, *_ = finished_run
    code, out, _ = invoke("sql", f'SELECT sum(duration_seconds) AS s FROM "{run_id}"', "--data-dir", data, "--json")
    assert (code, json.loads(out)) == (0, [{"s": 6.0}])
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    for statement, expected in (
        ("SELECT 1; SELECT 2", "exactly one SELECT"),
        ("DELETE FROM media", "exactly one SELECT"),
        (f"COPY (SELECT 1) TO '{data}/x.csv'", "exactly one SELECT"),
        (f"WITH a AS (COPY (SELECT 1) TO '{data}/x.csv') SELECT 1", "SQL:"),
        ("SELECT * FROM nothing", "nothing"),
    ):
        code, out, err = invoke("sql", statement, "--data-dir", data)
        assert (code, out) == (2, ""), statement
        assert err.startswith("error: "), err
        assert expected in err
        assert "Traceback" not in err
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_closed_output_pipe_exits_silently(finished_run):
    data = finished_run[0]
    child = start_promptreel("sql", "SELECT * FROM range(200000)", "--json", "--limit", 200000, "--data-dir", data)
    child.stdout.readline()
    child.stdout.close()
    child.stdout = None
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")


def test_run_killed_before_its_first_commit_is_interrupted(tmp_path, media):
    run_id = create_run(tmp_path, media / "b.flac", RunSettings())
    code, out, _ = invoke("runs", "--data-dir", tmp_path, "--json")
    assert (code, [(row["run_id"], row["status"]) for row in json.loads(out)]) == (0, [(run_id, "interrupted")])
    code, _, err = invoke("results", run_id, "--data-dir", tmp_path)
    assert code == 1
    assert f"run --resume {run_id}" in err
    with runner_lock(open_storage(tmp_path), run_id):
        _, out, _ = invoke("runs", "--data-dir", tmp_path, "--json")
        assert json.loads(out)[0]["status"] == "running"


def test_run_is_interrupted_until_its_newest_attempt_commits(finished_run):
    from promptreel.tables.attempts import begin_attempt
    from promptreel.tables.run_status import run_status

    data, run_id, *_ = finished_run
    storage = open_storage(data)
    manifest = newest_manifest(storage, run_id)
    assert run_status(storage, run_id, manifest) == "completed_with_failures"
    attempt = begin_attempt(storage, run_id)
    assert run_status(storage, run_id, manifest) == "interrupted"
    (data / "runs" / run_id / "attempts" / f"{attempt:06d}.json").unlink()


def test_cancelled_segments_are_named_by_every_command(media, tmp_path):
    film = media / "a film.mp4"
    run_media(tmp_path, film, settings_for(), MEASURED)  # stores the analysis, so the stopped run plans its segments
    run_id = create_run(tmp_path, film, settings_for())
    request_stop(open_storage(tmp_path), run_id, "test")
    execute_run(str(tmp_path), run_id)
    code, out, _ = invoke("runs", "--data-dir", tmp_path, "--json")
    assert (code, {row["run_id"]: row["status"] for row in json.loads(out)}[run_id]) == (0, "cancelled")
    _, _, err = invoke("results", run_id, "--data-dir", tmp_path)
    assert "segments without a result: 4 cancelled" in err
    _, out, _ = invoke("sql", "SELECT DISTINCT synthesis FROM media", "--run", run_id, "--data-dir", tmp_path, "--json")
    assert json.loads(out) == [{"synthesis": "cancelled"}]
