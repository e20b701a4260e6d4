"""Final failures are paid once per run: a resume or retry reads them from the call log."""

import os

import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.tables.retry_scope import RetryScope, target_of, write_retry
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import (
    check_counts,
    create_run,
    kill_runner_after,
    make_video,
    manifest_of,
    plain_rows,
    promptreel,
    run_media,
    settings_for,
)
from tests.prompts import NESTED

SEGMENTS = 4
BLOCKED = Fault(text="0:01.00 to 0:02.00", finish_reason="SAFETY")
TRUNCATED = Fault(text="0:01.00 to 0:02.00", answer="truncated")
MALFORMED = Fault(text="0:02.00 to 0:03.00", answer="malformed")
BROKEN_SYNTHESIS = Fault(text="0:00.00.*0:01.00(?s:.)*0:03.00", answer="malformed")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", SEGMENTS, sound=False)


def settings(server):
    return settings_for(server, media_input="frames", max_in_flight=1)


def resume(data, run_id):
    """Run `promptreel run --resume`; return (exit code, standard error)."""
    code, _, err = promptreel("run", "--resume", run_id, "--data-dir", data, env={**os.environ})
    return code, err


def calls_about(server, text):
    return [entry for entry in server.ledger.answered() if text in entry.text]


@pytest.mark.parametrize(("fault", "paid"), [(BLOCKED, 1), (TRUNCATED, 2)], ids=["blocked", "truncated"])
def test_run_killed_before_commit_pays_final_answer_once(tmp_path, film, fault, paid):
    with FakeGemini(faults=[fault]) as server:
        run_id = create_run(tmp_path, film, settings(server), NESTED)
        kill_runner_after(SEGMENTS - 1 + paid, tmp_path, run_id)
        assert len(calls_about(server, "0:01.00 to 0:02.00")) == paid
        execute_run(str(tmp_path), run_id)
        assert len(calls_about(server, "0:01.00 to 0:02.00")) == paid
    rows = check_counts(tmp_path, run_id)
    (failure,) = rows["failures"]
    assert (failure["code"], failure["retryable"]) == (f"model_{'blocked' if paid == 1 else 'truncated'}", False)


def test_truncated_answer_continues_with_its_second_try(tmp_path, film):
    with FakeGemini(faults=[TRUNCATED]) as server:
        run_id = create_run(tmp_path, film, settings(server), NESTED)
        kill_runner_after(2, tmp_path, run_id)
        calls_before = len(calls_about(server, "0:01.00 to 0:02.00"))
        execute_run(str(tmp_path), run_id)
        assert len(calls_about(server, "0:01.00 to 0:02.00")) <= max(2, calls_before)
    assert [row["code"] for row in check_counts(tmp_path, run_id)["failures"]] == ["model_truncated"]


def test_resume_after_killed_retry_does_not_repeat_final_answers(tmp_path, film):
    with FakeGemini(faults=[BLOCKED, MALFORMED]) as server:
        run_id = run_media(tmp_path, film, settings(server))
        assert len(calls_about(server, "0:01.00 to 0:02.00")) == 1
        retryable = [row for row in plain_rows(tmp_path, run_id, "failures") if row["retryable"]]
        scope = RetryScope(frozenset(map(target_of, retryable)))
        write_retry(open_storage(tmp_path), run_id, "retry_1", scope)
        kill_runner_after(1, tmp_path, run_id, "--retry-id", "retry_1")
        server.set_faults(BLOCKED)
        code, err = resume(tmp_path, run_id)
        assert code == 3, err
        assert len(calls_about(server, "0:01.00 to 0:02.00")) == 1
    rows = check_counts(tmp_path, run_id)
    assert [row["code"] for row in rows["failures"]] == ["model_blocked"]
    assert len(rows["results"]) == SEGMENTS - 1


def test_retry_of_a_synthesis_makes_no_other_calls(tmp_path, film):
    with FakeGemini(faults=[BLOCKED, BROKEN_SYNTHESIS]) as server:
        run_id = run_media(tmp_path, film, settings(server))
        failed = {row["operation"]: row for row in plain_rows(tmp_path, run_id, "failures")}
        assert failed["synthesis"]["retryable"]
        assert not failed["field_extraction"]["retryable"]
        server.set_faults()
        before = len(server.ledger.calls())
        code, err = resume(tmp_path, run_id)
        assert code == 3, err
        assert len(server.ledger.calls()) == before + 1
    rows = check_counts(tmp_path, run_id)
    assert [row["code"] for row in rows["failures"]] == ["model_blocked"]
    assert len(rows["video_results"]) == 1


def test_explicitly_retried_segment_is_called_again_once(tmp_path, film):
    """The earlier answer is ignored; one from the retry itself counts, even after its runner was killed."""
    with FakeGemini(faults=[BLOCKED]) as server:
        run_id = run_media(tmp_path, film, settings(server))
        (failure,) = plain_rows(tmp_path, run_id, "failures")
        scope = RetryScope(frozenset([target_of(failure)]), repeat_failed_until=1)
        write_retry(open_storage(tmp_path), run_id, "retry_1", scope)
        kill_runner_after(1, tmp_path, run_id, "--retry-id", "retry_1")
        assert len(calls_about(server, "0:01.00 to 0:02.00")) == 2
        execute_run(str(tmp_path), run_id, retry_id="retry_1")
        assert len(calls_about(server, "0:01.00 to 0:02.00")) == 2
    assert manifest_of(tmp_path, run_id).number == 2
    assert [row["code"] for row in check_counts(tmp_path, run_id)["failures"]] == ["model_blocked"]


@pytest.mark.parametrize(
    ("failure", "target"),
    [
        (("seg_1", "field_extraction"), "seg_1"),
        (("seg_1", "transcription"), "seg_1"),
        ((None, "processing"), "vid_a"),
        ((None, "synthesis"), "synthesis"),
        ((None, "text_embedding"), "text_embedding"),
    ],
)
def test_only_an_unsegmented_item_is_retried_entirely(failure, target):
    segment_id, operation = failure
    found = target_of({"video_id": "vid_a", "segment_id": segment_id, "operation": operation})
    assert found == ("vid_a", target)
    scope = RetryScope(frozenset([found]))
    assert scope.video_ids == {"vid_a"}
    assert scope.contains("vid_a", "seg_2") == (target == "vid_a")
