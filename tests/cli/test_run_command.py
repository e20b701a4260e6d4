"""`promptreel run`: output, exit codes, suggested commands and resume."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.tables.storage import open_storage
from tests.cli.in_process import FIXED_SEGMENTS, invoke
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import CHECKOUT, promptreel
from tests.prompts import NESTED


def test_run_prints_progress_lines_and_a_summary(finished_run):
    _, run_id, code, out, err = finished_run
    assert code == 3  # completed with failures: d.mp4
    assert f"run {run_id}: 4 items" in err
    assert err.strip().splitlines()[-1].endswith("done")
    assert "\x1b" not in err + out
    for text in (
        "a film.mp4",
        "d.mp4",
        "media_unsupported",
        "text file",
        f"run      {run_id}: completed_with_failures",
    ):
        assert text in out
    assert "media    4 (3 completed, 1 failed)" in out
    assert "segments 4 (4 succeeded)" in out
    assert "0 reused from earlier runs" in out


def test_suggested_commands_work_when_pasted(finished_run, tmp_path):
    _, run_id, _, out, _ = finished_run
    suggested = [line.strip() for line in out.split("next:\n")[1].splitlines() if line.strip()]
    assert len(suggested) == 4
    for line in suggested:
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, env=_environment())
        assert done.returncode == 0, (line, done.stderr)
        assert done.stdout.strip()
    assert any(run_id in line for line in suggested)


def _environment():
    return {**os.environ, "PYTHONPATH": str(CHECKOUT)}


def test_suggested_command_omits_the_default_data_folder(finished_run, monkeypatch):
    from promptreel.cli.options import command_line

    data = finished_run[0]
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


def test_resume_without_retryable_failures_executes_nothing(finished_run):
    data, run_id, *_ = finished_run
    before = sorted((data / "runs" / run_id / "manifests").iterdir())
    code, out, err = promptreel("run", "--resume", run_id, "--data-dir", data)
    assert (code, "nothing to retry: none of the 1 failures is retryable" in err) == (3, True)
    assert f"run      {run_id}: completed_with_failures" in out
    assert sorted((data / "runs" / run_id / "manifests").iterdir()) == before


def test_resume_of_ended_run_only_retries_retryable_failures(tmp_path, media, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    rejected, unavailable = Fault(text="0:00.00 to 0:02.00", status=400), Fault(text="0:02.00 to 0:04.00", status=503)
    with FakeGemini(faults=[rejected, unavailable]) as server:
        words = [
            *FIXED_SEGMENTS,
            "--model",
            DEFAULT_GEMINI_MODEL,
            "--base-url",
            server.base_url,
            "--media-input",
            "frames",
        ]
        words += ["--max-attempts", 2, "--max-outage", 0, "--data-dir", tmp_path]
        code, out, _ = promptreel("run", media / "a film.mp4", *words, "--json")
        summary = json.loads(out)
        assert code == 1
        assert sorted((row["code"], row["retryable"]) for row in summary["failures"] if row["segment_id"]) == [
            ("model_bad_request", False), ("model_unavailable", True),
        ]  # fmt: skip
        earlier_calls = len(server.ledger.calls())
        server.set_faults()
        code, out, _ = promptreel("run", "--resume", summary["run_id"], "--data-dir", tmp_path, "--json")
        retried = server.ledger.calls()[earlier_calls:]
    assert code == 3
    assert [row["code"] for row in json.loads(out)["failures"] if row["segment_id"]] == ["model_bad_request"]
    assert [("0:02.00 to 0:04.00" in entry.text) for entry in retried if "segment is" in entry.text] == [True]


def test_copies_of_a_file_are_reported_as_one_item(tmp_path, media):
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("one.flac", "two.flac"):
        (folder / name).write_bytes((media / "b.flac").read_bytes())
    code, out, _ = promptreel("run", folder, *FIXED_SEGMENTS, "--data-dir", tmp_path, "--model", "signals")
    assert (code, "copies   1 files are copies of others" in out) == (0, True)
    for name in ("one.flac", "two.flac"):
        code, out, _ = invoke("results", "--media", name, "--data-dir", tmp_path, "--json")
        assert (code, {row["name"] for row in json.loads(out)}) == (0, {"one.flac"})


def test_exit_codes_of_success_failure_and_missing_run(tmp_path, media):
    code, out, err = promptreel("run", media / "b.flac", "--data-dir", tmp_path, "--json", "--model", "signals")
    assert (code, json.loads(out)["status"]) == (0, "completed"), err
    code, out, _ = promptreel("run", media / "d.mp4", "--data-dir", tmp_path, "--json", "--model", "signals")
    assert (code, json.loads(out)["status"]) == (1, "failed")
    code, _, err = invoke("results", "--data-dir", tmp_path / "empty")
    assert code == 2
    assert "start one with: promptreel run FOLDER" in err


def test_run_calls_the_service_and_reports_its_failures(tmp_path, media):
    prompt = tmp_path / "prompt.json"
    prompt.write_text(json.dumps(NESTED.to_dict()))
    with FakeGemini(faults=[Fault(text="0:02.00 to", finish_reason="SAFETY")]) as server:
        code, out, err = promptreel(
            "run", media / "a film.mp4", "--prompt", prompt, "--model", "gemini-x", "--base-url", server.base_url,
            *FIXED_SEGMENTS, "--data-dir", tmp_path / "data", "--json",
        )  # fmt: skip
        assert len(server.ledger.calls()) == 3
    summary = json.loads(out)
    assert (code, summary["status"]) == (3, "completed_with_failures"), err
    assert [(row["code"], row["start_us"]) for row in summary["failures"]] == [("model_blocked", 2_000_000)]
