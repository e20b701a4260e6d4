"""A resume accepts the settings that cannot change a finished answer, and retries what they may fix."""

import json
from dataclasses import fields

import pytest

from promptreel.cli.resume import RESUME_OPTIONS
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.schemas.settings import CallSettings
from tests.cli.in_process import invoke
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import make_video, plain_rows, promptreel

SECONDS = 4
TRUNCATED = Fault(text="segment is 0:01.00 to 0:02.00", answer="truncated")
ONE_ATTEMPT = ("--max-attempts", 1, "--max-outage", 0)
BLOCKED = Fault(text="segment is 0:02.00 to 0:03.00", finish_reason="SAFETY")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", SECONDS, sound=False)


def run(data, server, film, *words):
    """Run the film in segments of one second; return its summary."""
    words = ["--video-segmentation", "fixed", "--video-segment-seconds", 1, "--media-input", "frames", *words]
    words += ["--model", DEFAULT_GEMINI_MODEL, "--base-url", server.base_url, "--no-transcription"]
    _, out, err = promptreel("run", film, *words, "--data-dir", data, "--json")
    assert out, err
    return json.loads(out)


def resume(data, run_id, *words):
    """Resume a run; return (exit code, summary or None, standard error)."""
    code, out, err = promptreel("run", "--resume", run_id, *words, "--data-dir", data, "--json")
    return code, json.loads(out) if out else None, err


def calls_after(server, made):
    return [call for call in server.ledger.calls()[made:] if "segment is" in call.text]


def test_larger_budget_retries_only_truncated_answers(tmp_path, film):
    with FakeGemini(faults=[TRUNCATED, BLOCKED]) as server:
        run_id = run(tmp_path, server, film, "--max-output-tokens", 100)["run_id"]
        failures = {row["code"]: row["retryable"] for row in plain_rows(tmp_path, run_id, "failures")}
        assert failures == {"model_truncated": False, "model_blocked": False}
        made = len(server.ledger.calls())
        server.set_faults(BLOCKED)
        code, summary, err = resume(tmp_path, run_id, "--max-output-tokens", 4000)
        calls = calls_after(server, made)
    assert code == 3, err
    assert ["0:01.00 to 0:02.00" in call.text for call in calls] == [True]
    assert [row["code"] for row in summary["failures"]] == ["model_blocked"]
    assert {row["max_output_tokens"] for row in plain_rows(tmp_path, run_id, "llm_calls")} == {100, 400, 4000}


def test_changed_settings_apply_to_later_resumes_too(tmp_path, film):
    with FakeGemini(faults=[TRUNCATED, Fault(text="segment is 0:02.00 to 0:03.00", status=503)]) as server:
        run_id = run(tmp_path, server, film, "--max-output-tokens", 100, *ONE_ATTEMPT)["run_id"]
        code, summary, err = resume(tmp_path, run_id, "--max-output-tokens", 4000)
        assert code == 3, err
        assert "max_output_tokens: 100 -> 4000" in err
        server.set_faults()
        made = len(server.ledger.calls())
        code, summary, err = resume(tmp_path, run_id)
        assert code == 3, err
        assert ["0:02.00 to 0:03.00" in call.text for call in calls_after(server, made)] == [True]
        newest = max(plain_rows(tmp_path, run_id, "llm_calls"), key=lambda row: row["invoked_at"])
        assert newest["max_output_tokens"] == 4000
    assert [row["code"] for row in summary["failures"]] == ["model_truncated"]
    assert summary["changed_settings"] == {"model.max_output_tokens": 4000}
    frozen = json.loads((tmp_path / "runs" / run_id / "request.json").read_bytes())
    assert frozen["settings"]["model"]["max_output_tokens"] == 100


def test_equal_budget_does_not_repeat_truncated_answers(tmp_path, film):
    with FakeGemini(faults=[TRUNCATED]) as server:
        run_id = run(tmp_path, server, film, "--max-output-tokens", 100)["run_id"]
        made = len(server.ledger.calls())
        for words in ([], ["--max-output-tokens", 100], ["--max-output-tokens", 50]):
            code, _, err = resume(tmp_path, run_id, *words)
            assert (code, "nothing to retry" in err) == (3, True)
        assert len(server.ledger.calls()) == made


def test_larger_token_limit_completes_an_exhausted_run(tmp_path, film):
    with FakeGemini() as server:
        summary = run(tmp_path, server, film, "--max-tokens", 1, "--max-in-flight", 1)
        assert {row["code"] for row in summary["failures"]} == {"budget_exhausted"}
        code, summary, err = resume(tmp_path, summary["run_id"], "--max-tokens", 1_000_000)
        assert (code, summary["status"]) == (0, "completed"), err
        assert server.ledger.repeated() == 0


def test_longer_media_limit_retries_the_rejected_item(tmp_path, film):
    with FakeGemini() as server:
        summary = run(tmp_path, server, film, "--max-media-hours", 0.001)
        assert [row["code"] for row in summary["failures"]] == ["media_too_large"]
        code, summary, err = resume(tmp_path, summary["run_id"], "--max-media-hours", 1)
        assert (code, summary["status"]) == (0, "completed"), err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model", "signals"], "remove --model"),
        (["--fps", "1", "--max-tokens", "5"], "remove --fps"),
        (["--fresh"], "--max-output-tokens"),
    ],
)
def test_other_settings_are_rejected_with_those_that_can_change(words, expected):
    code, _, err = invoke("run", "--resume", "run_x", *words)
    assert (code, expected in err) == (2, True), err
    assert "a resume can change" in err
    assert "remove --max-tokens" not in err


def test_every_setting_of_calls_and_commits_can_be_changed():
    changeable = {path for path, _ in RESUME_OPTIONS.values()}
    assert {"commit_interval_s", *(f"calls.{part.name}" for part in fields(CallSettings))} <= changeable


def test_invalid_changed_setting_starts_no_attempt(tmp_path, film):
    with FakeGemini(faults=[TRUNCATED]) as server:
        run_id = run(tmp_path, server, film)["run_id"]
        code, _, err = invoke("run", "--resume", run_id, "--base-url", "notaurl", "--data-dir", tmp_path)
    assert (code, "base_url is 'notaurl'" in err) == (2, True), err
    assert len(list((tmp_path / "runs" / run_id / "attempts").iterdir())) == 1
