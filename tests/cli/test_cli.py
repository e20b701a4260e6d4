"""The command line as a user meets it: a process, its output, its exit code."""

import contextlib
import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from promptreel.cli.main import cli, main
from promptreel.cli.progress import RunProgress, describe
from promptreel.cli.target import expand_target
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.schemas.errors import TargetError
from promptreel.schemas.settings import RunSettings
from promptreel.tables.attempts import runner_lock
from promptreel.tables.manifest import newest_manifest
from promptreel.tables.progress import ProgressBoard, read_progress
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import CHECKOUT, create_run, make_audio, make_image, make_video, promptreel, start_promptreel
from tests.prompts import NESTED


def typed(*words, env=None):
    """What a command that starts no process of its own does, without one: (exit code, standard output, standard error)."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, {"GEMINI_API_KEY": "any", **(env or {})}),
        mock.patch.object(sys, "argv", ["promptreel", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return ended.value.code, out.getvalue(), err.getvalue()


FIXED = ["--video-segmentation", "fixed", "--video-segment-seconds", 2]
COMMANDS = ["run", "estimate", "runs", "results", "failures", "sql", "doctor", "sample-film"]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    make_video(folder / "a film.mp4", 4)
    make_audio(folder / "b.flac", 2)
    make_image(folder / "c.png")
    (folder / "d.mp4").write_text("no film")
    return folder


@pytest.fixture(scope="module")
def ran(media, tmp_path_factory):
    """(data folder with a blank in its name, run id, exit code, output, errors) of one run without any option."""
    data = tmp_path_factory.mktemp("data") / "my data"
    code, out, err = promptreel("run", media, *FIXED, "--data-dir", data, "--model", "signals")
    (folder,) = (data / "runs").iterdir()
    return data, folder.name, code, out, err


def test_a_run_tells_its_progress_in_lines_and_sums_up(ran):
    _, run_id, code, out, err = ran
    assert code == 3  # completed with failures: d.mp4
    assert f"run {run_id}: 4 items" in err
    assert err.strip().splitlines()[-1].endswith("done")
    assert "\x1b" not in err + out
    for said in (
        "a film.mp4",
        "d.mp4",
        "media_unsupported",
        "text file",
        f"run      {run_id}: completed_with_failures",
    ):
        assert said in out
    assert "media    4 (3 completed, 1 failed)" in out
    assert "segments 4 (4 succeeded)" in out
    assert "0 reused from earlier runs" in out


def test_the_commands_that_a_run_suggests_work_when_pasted(ran, tmp_path):
    _, run_id, _, out, _ = ran
    suggested = [line.strip() for line in out.split("next:\n")[1].splitlines() if line.strip()]
    assert len(suggested) == 4
    for line in suggested:
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, env=_environment())
        assert done.returncode == 0, (line, done.stderr)
        assert done.stdout.strip()
    assert any(run_id in line for line in suggested)


def _environment():
    return {**os.environ, "PYTHONPATH": str(CHECKOUT)}


def test_a_suggested_command_leaves_out_the_data_folder_where_it_is_the_default(ran, monkeypatch):
    from promptreel.cli.options import command_line

    data = ran[0]
    storage = open_storage(data)
    assert command_line(storage, "runs")[-len(shlex.quote(str(data))) :] == shlex.quote(str(data))
    monkeypatch.setenv("PROMPTREEL_DATA", str(data))
    assert command_line(storage, "runs").endswith(" runs")
    monkeypatch.setattr(sys, "argv", [shutil.which("promptreel", path=Path(sys.executable).parent)])
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert command_line(storage, "runs") == "promptreel runs"
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(Path(sys.executable).parent.parent)
    assert command_line(storage, "runs") == "bin/promptreel runs"


def test_the_reading_commands_answer_people_and_programs(ran):
    data, run_id, *_ = ran
    code, out, _ = typed("runs", "--data-dir", data, "--json")
    (row,) = json.loads(out)
    assert (code, row["run_id"], row["status"], row["results"], row["failures"]) == (
        0, run_id, "completed_with_failures", 4, 1,
    )  # fmt: skip
    code, out, _ = typed("results", run_id, "--data-dir", data, "--json", "--media", "a film.mp4", "--limit", 1)
    (row,) = json.loads(out)
    assert (code, row["name"], row["metadata"]["duration_seconds"]) == (0, "a film.mp4", 2.0)
    code, out, _ = typed("results", "--video-level", "--data-dir", data)
    assert (code, "2 of 2" in out, "1 of 1" in out) == (0, True, True)
    code, out, err = typed("results", "--media", "nothing", "--data-dir", data)
    assert (code, out) == (2, "")
    assert "no media 'nothing'" in err
    code, out, _ = typed("failures", "--data-dir", data, "--json")
    assert (code, [(row["name"], row["code"]) for row in json.loads(out)]) == (0, [("d.mp4", "media_unsupported")])
    code, out, _ = typed("failures", "--data-dir", data)
    assert (code, "d.mp4" in out) == (0, True)


def test_a_run_whose_failures_would_come_again_is_not_made_again(ran):
    data, run_id, *_ = ran
    before = sorted((data / "runs" / run_id / "manifests").iterdir())
    code, out, err = promptreel("run", "--resume", run_id, "--data-dir", data)
    assert (code, "nothing to retry: none of the 1 failures is retryable" in err) == (3, True)
    assert f"run      {run_id}: completed_with_failures" in out
    assert sorted((data / "runs" / run_id / "manifests").iterdir()) == before


def test_a_resume_of_an_ended_run_tries_its_retryable_failures_and_no_others(tmp_path, media, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    refused, unavailable = Fault(text="0:00.00 to 0:02.00", status=400), Fault(text="0:02.00 to 0:04.00", status=503)
    with FakeGemini(faults=[refused, unavailable]) as server:
        words = [*FIXED, "--model", DEFAULT_GEMINI_MODEL, "--base-url", server.base_url, "--media-input", "frames"]
        words += ["--max-attempts", 2, "--data-dir", tmp_path]
        code, out, _ = promptreel("run", media / "a film.mp4", *words, "--json")
        found = json.loads(out)
        assert code == 1
        assert sorted((row["code"], row["retryable"]) for row in found["failures"] if row["segment_id"]) == [
            ("model_bad_request", False), ("model_unavailable", True),
        ]  # fmt: skip
        asked = len(server.ledger.calls())
        server.set_faults()
        code, out, _ = promptreel("run", "--resume", found["run_id"], "--data-dir", tmp_path, "--json")
        again = server.ledger.calls()[asked:]
    assert code == 3
    assert [row["code"] for row in json.loads(out)["failures"] if row["segment_id"]] == ["model_bad_request"]
    assert [("0:02.00 to 0:04.00" in entry.text) for entry in again if "segment is" in entry.text] == [True]


def test_files_with_the_same_bytes_are_said_to_be_one_item(tmp_path, media):
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("one.flac", "two.flac"):
        (folder / name).write_bytes((media / "b.flac").read_bytes())
    code, out, _ = promptreel("run", folder, *FIXED, "--data-dir", tmp_path, "--model", "signals")
    assert (code, "copies   1 files are copies of others" in out) == (0, True)
    for name in ("one.flac", "two.flac"):
        code, out, _ = typed("results", "--media", name, "--data-dir", tmp_path, "--json")
        assert (code, {row["name"] for row in json.loads(out)}) == (0, {"one.flac"})


def test_sql_gives_programs_numbers_and_not_their_text(ran):
    data, *_ = ran
    values = "sum(segment_count) AS s, 1.25::DECIMAL(5,2) AS d, 'ab'::BLOB AS b, DATE '2026-01-02' AS t"
    statement = f"SELECT {values} FROM media"
    code, out, _ = typed("sql", statement, "--data-dir", data, "--json")
    assert (code, json.loads(out)) == (0, [{"s": 4, "d": 1.25, "b": "YWI=", "t": "2026-01-02"}])


@pytest.mark.parametrize("command", [["keys", "list"], ["serve"]])
def test_a_database_that_cannot_be_opened_is_named_without_its_password(tmp_path, command):
    (tmp_path / "file").write_text("")
    code, _, err = typed(*command, "--data-dir", tmp_path / "file")
    assert (code, "cannot be opened" in err, str(tmp_path / "file") in err) == (2, True, True)
    for url in ("postgresql://u:pw_hunter2@127.0.0.1:1/x", "mysql://u:pw_hunter2@h/x", "nonsense"):
        code, _, err = typed(*command, "--data-dir", tmp_path, env={"DATABASE_URL": url})
        assert (code, "cannot be opened" in err, "pw_hunter2" in err, "Traceback" in err) == (2, True, False, False)


def test_a_port_in_use_is_refused_before_the_service_begins(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = typed("serve", "--port", port, "--data-dir", tmp_path)
    assert (code, f"cannot listen on 127.0.0.1 port {port}" in err) == (2, True)


def test_sql_answers_one_select_and_refuses_everything_else(ran):
    data, run_id, *_ = ran
    code, out, _ = typed("sql", f'SELECT sum(duration_seconds) AS s FROM "{run_id}"', "--data-dir", data, "--json")
    assert (code, json.loads(out)) == (0, [{"s": 6.0}])
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    for statement, said in (
        ("SELECT 1; SELECT 2", "exactly one SELECT"),
        ("DELETE FROM media", "exactly one SELECT"),
        (f"COPY (SELECT 1) TO '{data}/x.csv'", "exactly one SELECT"),
        (f"WITH a AS (COPY (SELECT 1) TO '{data}/x.csv') SELECT 1", "SQL:"),
        ("SELECT * FROM nothing", "nothing"),
    ):
        code, out, err = typed("sql", statement, "--data-dir", data)
        assert (code, out) == (2, ""), statement
        assert err.startswith("error: "), err
        assert said in err
        assert "Traceback" not in err
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_a_reader_that_has_seen_enough_ends_the_output_quietly(ran):
    data = ran[0]
    child = start_promptreel("sql", "SELECT * FROM range(200000)", "--json", "--limit", 200000, "--data-dir", data)
    child.stdout.readline()
    child.stdout.close()
    child.stdout = None
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")


def test_every_command_explains_itself():
    for name in COMMANDS:
        command = cli.get_command(None, name)
        for parameter in command.params:
            if parameter.param_type_name == "option" and name != "sample-film":
                assert parameter.help or parameter.name == "temperature", f"{name} {parameter.name} has no help"
    code, out, _ = typed("--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)
    assert "Exit codes" in out


def test_every_setting_of_a_run_can_be_reached_from_the_command_line(tmp_path, monkeypatch):
    from promptreel.cli import options as options_module

    changed = {
        "--video-segmentation": "fixed", "--video-segment-seconds": 7, "--audio-segmentation": "fixed",
        "--audio-segment-seconds": 9, "--fps": 2, "--media-input": "frames", "--media-resolution": "low",
        "--temperature": 0.5, "--max-output-tokens": 100, "--thinking-level": "low", "--base-url": "http://127.0.0.1:1",
        "--max-in-flight": 3, "--max-calls-per-second": 2.5, "--call-deadline": 8, "--max-attempts": 2,
        "--max-tokens": 1000, "--run-deadline": 60, "--max-media-hours": 1, "--max-image-megapixels": 50,
        "--max-damage": 0.5, "--model": "gemini-x",
        "--vertex-project": "p", "--vertex-location": "l",
    }  # fmt: skip
    import click

    made = []
    command = click.command()(options_module.settings_options(lambda **o: made.append(options_module.settings_of(o))))
    words = [str(word) for pair in changed.items() for word in pair]
    command.main([*words, "--fresh"], standalone_mode=False)
    (settings,) = made
    plain = RunSettings().to_dict()
    same = {
        f"{group}.{key}"
        for group in ("segmentation", "sampling", "model", "calls", "limits")
        for key, value in settings.to_dict()[group].items()
        if value == plain[group][key]
    }
    # Lengths, frame size and decoder limits are not for the command line; --thinking-budget excludes --thinking-level.
    assert same == {
        "segmentation.smart_lengths", "segmentation.shot_lengths", "segmentation.pause_lengths", "sampling.max_width",
        "sampling.max_height", "sampling.jpeg_quality", "limits.max_pixels", "limits.decode_memory_bytes",
        "limits.decode_deadline_factor", "model.thinking_budget",
    }  # fmt: skip
    assert settings.reuse_results is False


def prompt_file(folder, **changes):
    definition = {
        "name": "mine",
        "prompt_text": "Describe the segment.",
        "json_schema": {"type": "object", "properties": {"summary": {"type": "string"}}},
    }
    path = folder / "prompt.json"
    path.write_text(json.dumps(definition | changes))
    return path


def schema_of(name, kind):
    return {"type": "object", "properties": {name: {"type": kind}}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--promt", "x"], "no such option --promt; did you mean --prompt?"),
        (["--prompt", "nosuch"], "no prompt 'nosuch': give a JSON file, or one of"),
        (["--prompt", "reserved"], "field name 'transcription' is reserved"),
        (["--prompt", "unknown type"], "field 'age' has the unknown type 'int'; use one of"),
        (["--prompt", "free text", "--model", "signals"], "cannot fill 'summary'"),
        (["--model", "nosuch"], "no provider for model 'nosuch'"),
        (["--model", DEFAULT_GEMINI_MODEL], "needs a key: set GEMINI_API_KEY"),
        (["--video-segment-seconds", "5"], "a length is allowed with fixed segmentation only"),
        (["--fps", "100"], "--fps"),
        (["--resume", "run_none"], "run run_none not found"),
        (["--resume", "../x"], "run id '../x'"),
        (["--resume", "run_x", "--model", "signals", "--fps", "1"], "remove --model --fps"),
        (["--model", DEFAULT_GEMINI_MODEL, "--base-url", "notaurl"], "base_url is 'notaurl'"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_wrong_input_ends_with_2_and_says_what_to_do(tmp_path, media, words, said):
    if words[0] == "--prompt" and words[1] != "nosuch":
        schema = {"reserved": schema_of("transcription", "string"), "unknown type": schema_of("age", "int")}
        changes = {"json_schema": schema[words[1]]} if words[1] in schema else {}
        words = ["--prompt", str(prompt_file(tmp_path, **changes)), *words[2:]]
    target = [] if "--resume" in words else [media / "b.flac"]
    keyless = {"GEMINI_API_KEY": "", "GOOGLE_API_KEY": ""}
    code, out, err = typed("run", *target, *words, "--data-dir", tmp_path / "data", env=keyless)
    assert (code, out) == (2, ""), err
    assert said in err
    assert "Traceback" not in err
    assert not list((tmp_path / "data").glob("runs/*"))


def test_a_data_folder_that_cannot_be_made_is_named(media):
    code, _, err = typed("run", media / "b.flac", "--data-dir", "/proc/none", "--model", "signals")
    assert (code, "cannot create the folder /proc/none" in err) == (1, True)


def test_a_target_that_names_nothing_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(TargetError, match="name at least one"):
        expand_target([])
    with pytest.raises(TargetError, match="no media files in"):
        expand_target([str(tmp_path)])
    with pytest.raises(TargetError, match="does not exist"):
        expand_target([str(tmp_path / "gone.mp4")])
    assert [item.name for item in expand_target([str(tmp_path / "notes.txt")]).items] == ["notes.txt"]
    assert [item.name for item in expand_target(["gs://bucket/a/b.mp4"]).items] == ["b.mp4"]


def test_files_left_out_of_a_folder_are_counted(tmp_path):
    for name in ("a.MP4", "b.m4b", "notes.txt", "more.txt", "deep/x.pdf", "LICENSE", ".hidden", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    target = expand_target([str(tmp_path)])
    assert [item.name for item in target.items] == ["a.MP4", "b.m4b"]
    text = "skipped 4 files without a media extension: .txt (2), no extension (1), .pdf (1)"
    assert target.skipped_text() == text
    assert expand_target([str(tmp_path / "a.MP4")]).skipped_text() is None
    code, _, err = typed("run", tmp_path, "--data-dir", tmp_path / "data", "--model", "signals")
    assert (code, text in err) == (1, True)


def test_a_data_folder_that_is_no_folder_ends_with_1_and_a_sentence(tmp_path, media):
    (tmp_path / "file").write_text("x")
    for words in (["runs"], ["run", media / "b.flac", "--model", "signals"], ["results"]):
        code, _, err = typed(*words, "--data-dir", tmp_path / "file")
        assert (code, err.count("\n"), err.startswith("error: ")) == (1, 1, True), err


def test_exit_codes_tell_success_failure_and_nothing_to_read(tmp_path, media):
    code, out, err = promptreel("run", media / "b.flac", "--data-dir", tmp_path, "--json", "--model", "signals")
    assert (code, json.loads(out)["status"]) == (0, "completed"), err
    code, out, _ = promptreel("run", media / "d.mp4", "--data-dir", tmp_path, "--json", "--model", "signals")
    assert (code, json.loads(out)["status"]) == (1, "failed")
    code, _, err = typed("results", "--data-dir", tmp_path / "empty")
    assert code == 2
    assert "start one with: promptreel run FOLDER" in err


def test_an_estimate_is_the_same_for_people_and_programs(tmp_path, media):
    code, out, _ = typed("estimate", media, *FIXED, "--data-dir", tmp_path, "--json", "--model", "gemini-x")
    found = json.loads(out)
    assert (code, found["segments"], found["model_calls"]) == (0, [4, 4], [6, 6])
    code, out, _ = typed("estimate", media, *FIXED, "--data-dir", tmp_path, "--model", "gemini-x")
    assert (code, "segments 4, model calls 6, reused 0" in out) == (0, True)
    assert "text file" in out
    assert not (tmp_path / "runs").exists()


def test_doctor_names_the_ffmpeg_and_the_models(tmp_path):
    code, out, _ = typed("doctor", "--data-dir", tmp_path, "--json", env={"GEMINI_API_KEY": ""})
    checks = {check["name"]: check for check in json.loads(out)}
    assert checks["ffmpeg"]["state"] == "ok"
    assert "export GEMINI_API_KEY" in checks["model gemini-*"]["fix"] or os.environ.get("GOOGLE_API_KEY")
    assert code == (1 if any(check["state"] == "broken" for check in checks.values()) else 0)


def test_a_run_by_the_command_line_asks_the_service_and_reports_its_failures(tmp_path, media):
    prompt = tmp_path / "prompt.json"
    prompt.write_text(json.dumps(NESTED.to_dict()))
    with FakeGemini(faults=[Fault(text="0:02.00 to", finish_reason="SAFETY")]) as server:
        code, out, err = promptreel(
            "run", media / "a film.mp4", "--prompt", prompt, "--model", "gemini-x", "--base-url", server.base_url,
            *FIXED, "--data-dir", tmp_path / "data", "--json",
        )  # fmt: skip
        assert len(server.ledger.calls()) == 3
    summary = json.loads(out)
    assert (code, summary["status"]) == (3, "completed_with_failures"), err
    assert [(row["code"], row["start_us"]) for row in summary["failures"]] == [("model_blocked", 2_000_000)]


def test_a_run_that_died_before_its_first_commit_is_listed_as_interrupted(tmp_path, media):
    run_id = create_run(tmp_path, media / "b.flac", RunSettings())
    code, out, _ = typed("runs", "--data-dir", tmp_path, "--json")
    assert (code, [(row["run_id"], row["status"]) for row in json.loads(out)]) == (0, [(run_id, "interrupted")])
    code, _, err = typed("results", run_id, "--data-dir", tmp_path)
    assert code == 1
    assert f"run --resume {run_id}" in err
    with runner_lock(open_storage(tmp_path), run_id):
        _, out, _ = typed("runs", "--data-dir", tmp_path, "--json")
        assert json.loads(out)[0]["status"] == "running"


def test_a_run_that_died_after_an_earlier_commit_is_interrupted_until_it_commits_again(ran):
    from promptreel.cli.read import _status
    from promptreel.tables.attempts import begin_attempt

    data, run_id, *_ = ran
    storage = open_storage(data)
    manifest = newest_manifest(storage, run_id)
    assert _status(storage, run_id, manifest) == "completed_with_failures"
    begun = begin_attempt(storage, run_id)
    assert _status(storage, run_id, manifest) == "interrupted"
    (data / "runs" / run_id / "attempts" / f"{begun:06d}.json").unlink()


def test_progress_without_a_terminal_is_a_line_when_something_changed(tmp_path, capsys, monkeypatch):
    storage = open_storage(tmp_path)
    now = [0.0]
    monkeypatch.setattr("promptreel.cli.progress.time.monotonic", lambda: now[0])
    board = ProgressBoard(storage, "run_a", 1)
    with RunProgress(storage, "run_a", 2) as progress:
        for second in range(20):
            now[0] = second
            if second in (0, 5, 6):
                board.add(items_read=1)
                board.flush()
            progress.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "run run_a: 2 items"
    assert 3 <= len(lines) <= 5
    assert lines[-1].endswith("done")
    assert not any("\x1b" in line for line in lines)


def test_progress_of_a_run_whose_media_is_all_known_counts_what_is_reused(tmp_path, media):
    shutil.copy(media / "b.flac", tmp_path / "same.flac")
    target = [media / "b.flac", tmp_path / "same.flac"]
    for _ in range(2):
        _, _, err = promptreel("run", *target, "--data-dir", tmp_path / "data", "--model", "signals")
    last = err.strip().splitlines()[-1]
    assert "media 2/2" in last  # two files, one item
    assert "operations 3, reused 3" in last  # its segment, its synthesis, its texts
    newest = sorted((tmp_path / "data" / "runs").iterdir())[-1].name
    counts = read_progress(open_storage(tmp_path / "data"), newest)
    assert counts["analyses_reused"] == 1
    assert describe(counts, 2) in last
