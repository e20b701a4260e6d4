"""Beam options on the command line of `promptreel run`: which are accepted, and that a mistake makes no calls."""

import importlib
import json
import re
import shlex

import pytest

from promptreel.tables.request import read_request, read_target
from promptreel.tables.storage import open_storage
from tests.cli.in_process import invoke
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import CHECKOUT, make_audio, promptreel

DIRECT = ["--runner", "DirectRunner"]
DATAFLOW = ["--runner", "DataflowRunner"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return make_audio(tmp_path_factory.mktemp("media") / "a.flac", 1)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    with FakeGemini() as server:
        yield server


@pytest.fixture
def executed(monkeypatch):
    """Record (runner, its options) instead of starting a process."""
    executions = []
    module = importlib.import_module("promptreel.cli.run")
    monkeypatch.setattr(module, "_execute", lambda storage, run_id, *more: executions.append(more[:2]) or 1)
    return executions


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([*DIRECT, "--max-token=500"], "no such option --max-token; did you mean --max-tokens?"),
        ([*DIRECT, "--max_tokens=500"], "no such option --max_tokens; did you mean --max-tokens?"),
        ([*DIRECT, "--max-token", "500"], "no such option --max-token; did you mean --max-tokens?"),
        ([*DIRECT, "--promt", "p.json"], "no such option --promt; did you mean --prompt?"),
        ([*DIRECT, "--promt=p.json"], "no such option --promt; did you mean --prompt?"),
        ([*DIRECT, "-promt", "p.json"], "no such option -promt; did you mean --prompt?"),
        ([*DIRECT, "--no-transcripton"], "no such option --no-transcripton; did you mean --no-transcription?"),
        ([*DIRECT, "--qqqqqqqq=1"], "no such option --qqqqqqqq; see promptreel run --help"),
        ([*DIRECT, "--project=p", "--promt", "p.json"], "no such option --promt"),
        ([*DATAFLOW, "--temp-location=gs://b/t"], "no such option --temp-location; did you mean --temp_location?"),
        ([*DATAFLOW, "--proj=p"], "no such option --proj; did you mean --project?"),
        (["--runner", "FlinkRunner", "--paralelism", "4"], "no such option --paralelism; did you mean --parallelism?"),
        (["--runner", "NoSuchRunner", "--project=p"], "'NoSuchRunner'"),
        (["--runner", "NoSuchRunner"], "'NoSuchRunner'"),
        (["--runner", "no.such.module.Runner"], "'no.such.module.Runner'"),
        ([*DIRECT, "--direct_running_mode=fast"], "--direct_running_mode: invalid choice: 'fast'"),
        ([*DIRECT, "--job_name"], "--job_name: expected one argument"),
        ([*DIRECT, "--job_name", "--no_auth"], "--job_name: expected one argument"),
        ([*DIRECT, "--no_auth=yes"], "--no_auth: ignored explicit argument 'yes'"),
        ([*DIRECT, "--gcs_custom_audit_entries=x"], "gcs_custom_audit_entries"),
        (["--promt", "p.json"], "no such option --promt; did you mean --prompt?"),
        (["-promt", "p.json"], "no such option -promt; did you mean --prompt?"),
        (["--project=p"], "--project is an option of a Beam runner; name the runner with --runner"),
        (["--projet=p"], "no such option --projet"),
        (
            [*DIRECT, "--runner-option", "max-token=500"],
            "--runner-option max-token=500: DirectRunner does not accept it",
        ),
        (["--runner-option", "max-token=500"], "--runner-option max-token=500: FnApiRunner does not accept it"),
        (
            [*DIRECT, "--", "--max-tokens", "5"],
            "--max-tokens after -- is read as media; for a file of that name write ./--max-tokens",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_invalid_option_is_rejected_before_a_run_is_created(tmp_path, monkeypatch, sound, server, words, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.json").write_text("{}")
    model = ["--model", "gemini-2.5-flash", "--base-url", server.base_url, "--data-dir", tmp_path / "data"]
    code, out, err = invoke("run", sound, *model, *words)
    assert (code, out) == (2, ""), err
    assert expected in err
    assert "Traceback" not in err
    assert "usage:" not in err
    assert not list((tmp_path / "data").glob("runs/*"))
    assert server.ledger.calls() == []


def test_beam_options_are_passed_to_the_local_runner(tmp_path, sound, executed):
    words = ["--runner", "FnApiRunner", "--project=x", "--data-dir", tmp_path, "--model", "signals"]
    _, _, err = invoke("run", sound, *words)
    assert "no such option" not in err
    assert executed == [("FnApiRunner", ["--project=x"])]


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        (["--project=p"], ["--project=p"]),
        (["--project", "p"], ["--project=p"]),
        (["--prism_location", "PATH"], ["--prism_location=PATH"]),
        (["--no_auth"], ["--no_auth"]),
        (["--streaming", "--no_use_public_ips"], ["--streaming", "--no_use_public_ips"]),
        (["--machine_type", "n1", "--worker_machine_type=n2"], ["--machine_type=n1", "--worker_machine_type=n2"]),
        (["--experiments=a", "--experiments", "b=c"], ["--experiments=a", "--experiments=b=c"]),
        (["--parallelism", "-1"], ["--parallelism=-1"]),
        (["--job-server-timeout", "5"], ["--job-server-timeout=5"]),
        (["--update_compatibility_version", "2.50.0"], ["--update_compatibility_version=2.50.0"]),
        (["--job_name="], ["--job_name="]),
        (["--runner-option", "object_reuse"], ["--object_reuse"]),
        (["--runner-option", "state_backend=x", "--runner-option=b=1"], ["--state_backend=x", "--b=1"]),
    ],
    ids=lambda value: " ".join(value),
)
@pytest.mark.parametrize("before", [True, False], ids=["before the media", "after it"])
def test_beam_options_reach_the_runner_with_their_values(tmp_path, sound, executed, words, passed, before):
    # The option's value is an existing file, so that it could be mistaken for media.
    words = [str(sound) if word == "PATH" else word for word in words]
    passed = [word.replace("PATH", str(sound)) for word in passed]
    other = make_audio(tmp_path / "other.flac", 1)
    line = [*words, other] if before else [other, *words]
    invoke("run", *DATAFLOW, *line, "--model", "signals", "--data-dir", tmp_path / "data")
    assert executed == [("DataflowRunner", passed)]
    storage = open_storage(tmp_path / "data")
    (run,) = (tmp_path / "data" / "runs").iterdir()
    assert read_request(storage, run.name).target == (str(other),)


def test_local_run_accepts_beam_options(tmp_path, sound):
    words = [*DIRECT, "--prism_location", sound, "--no_auth", "--job_name", "mine"]
    other = make_audio(tmp_path / "other.flac", 1, frequency=440)
    code, out, err = promptreel("run", *words, other, "--model", "signals", "--data-dir", tmp_path / "data", "--json")
    assert code == 0, err
    assert json.loads(out)["counts"]["media.total"] == 1


def readme_command():
    """Return the words after `promptreel` of the README's command for Dataflow."""
    text = (CHECKOUT / "README.md").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^promptreel (run .*--runner DataflowRunner.*)$", text, re.MULTILINE)
    return shlex.split(line)


def test_readme_command_for_dataflow_is_accepted(tmp_path, monkeypatch, executed):
    monkeypatch.chdir(tmp_path)
    words = readme_command()
    bucket = words.index("--data-dir") + 1
    assert words[bucket] == "gs://my-bucket/promptreel"
    words[bucket] = tmp_path / "data"
    schema = {"type": "object", "properties": {"summary": {"type": "string"}}}
    (tmp_path / "who.json").write_text(
        json.dumps({"name": "who", "prompt_text": "Who is seen here?", "json_schema": schema})
    )
    code, _, err = invoke(*words, env={"GOOGLE_CLOUD_PROJECT": "my-project"})
    assert (code, "ended without a commit" in err) == (1, True), err
    assert executed == [
        (
            "DataflowRunner",
            [
                "--project=my-project",
                "--region=us-central1",
                "--temp_location=gs://my-bucket/tmp",
                "--staging_location=gs://my-bucket/staging",
                "--setup_file=./setup.py",
                "--requirements_file=./workers.txt",
            ],
        )
    ]
    (run,) = (tmp_path / "data" / "runs").iterdir()
    target = read_target(open_storage(tmp_path / "data"), run.name)
    assert [item.uri for item in target] == ["gs://my-bucket/media/a.mp4", "gs://my-bucket/media/b.mp4"]
