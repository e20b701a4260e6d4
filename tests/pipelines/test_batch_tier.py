"""Runs with the tier batch: the same results as live calls for half the price, whatever happens to the jobs."""

import threading
from collections import Counter
from dataclasses import replace

import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.providers import batch_lane, gemini_batch
from promptreel.tables.stop_signal import clear_stop, request_stop
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import (
    check_counts,
    comparable_rows,
    create_run,
    make_video,
    manifest_of,
    plain_rows,
    run_media,
    wait_for,
)
from tests.pipelines.batch_runs import SECONDS, _short_waits, batch_settings  # noqa: F401

pytestmark = pytest.mark.usefixtures("_short_waits")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", SECONDS, sound=False)


@pytest.fixture(scope="module")
def standard(tmp_path_factory, film):
    """(rows, price) of the run at the standard tier."""
    data = tmp_path_factory.mktemp("standard")
    with FakeGemini() as server:
        run_id = run_media(data, film, batch_settings(server, tier="standard"))
        return comparable_rows(data, run_id), server.ledger.bill()


@pytest.mark.parametrize("inline_bytes", [gemini_batch.MAX_INLINE_JOB_BYTES, 1], ids=["inlined requests", "file"])
def test_batch_gives_the_results_of_live_calls_for_half_the_price(tmp_path, film, standard, monkeypatch, inline_bytes):
    monkeypatch.setattr(gemini_batch, "MAX_INLINE_JOB_BYTES", inline_bytes)
    with FakeGemini() as server:
        run_id = run_media(tmp_path, film, batch_settings(server))
        assert comparable_rows(tmp_path, run_id) == standard[0]
        assert server.ledger.bill() == standard[1] / 2
        assert {job.is_file for job in server.service.batches.jobs.values()} == {inline_bytes == 1}
        assert server.ledger.repeated() == 0
    assert {call["tier"] for call in check_counts(tmp_path, run_id)["llm_calls"]} == {"batch"}


@pytest.mark.parametrize("media_input", ["clips", "files"])
def test_batch_sends_the_media_of_live_calls(tmp_path, film, media_input):
    sent = {}
    for tier in ("standard", "batch"):
        with FakeGemini() as server:
            settings = batch_settings(server, tier=tier)
            settings = replace(settings, model=replace(settings.model, media_input=media_input))
            run_id = run_media(tmp_path / tier, film, settings)
            calls = [entry for entry in server.ledger.answered() if "segment is" in entry.text]
            sent[tier] = sorted((call.text, call.input_tokens) for call in calls)
        assert manifest_of(tmp_path / tier, run_id).status == "completed"
    assert sent["batch"] == sent["standard"]
    assert len(sent["batch"]) == SECONDS


def test_failed_answer_is_read_from_its_job_only_once(tmp_path, film):
    with FakeGemini(faults=[Fault(text="0:01.00 to 0:02.00", answer="empty")]) as server:
        run_id = run_media(tmp_path, film, batch_settings(server))
        assert manifest_of(tmp_path, run_id).status == "completed_with_failures"
        server.set_faults()
        execute_run(str(tmp_path), run_id)
        assert manifest_of(tmp_path, run_id).status == "completed"
        assert len(plain_rows(tmp_path, run_id, "llm_calls")) == len(server.ledger.answered())


def test_full_groups_are_sent_as_several_jobs(tmp_path, film, standard, monkeypatch):
    monkeypatch.setattr(batch_lane, "MAX_GROUP_CALLS", 2)
    with FakeGemini() as server:
        run_id = run_media(tmp_path, film, batch_settings(server))
        sizes = sorted(len(job.requests) for job in server.service.batches.jobs.values())
    assert sizes == [1, 2, 2]
    assert comparable_rows(tmp_path, run_id) == standard[0]


def test_failures_of_single_requests_are_classified_like_those_of_live_calls(tmp_path):
    faults = {
        0: {"status": 400},
        1: {"status": 503, "tries": 1},
        2: {"status": 503},
        3: {"status": 429, "retry_delay": 0.1, "tries": 1},
        4: {"finish_reason": "SAFETY"},
        5: {"answer": "truncated"},
        6: {"answer": "malformed", "first": 1},
        7: {"answer": "empty"},
        8: {"block_reason": "PROHIBITED_CONTENT"},
    }
    film = make_video(tmp_path / "long.mp4", len(faults) + 1, sound=False)
    found = {}
    for tier in ("standard", "batch"):
        data = tmp_path / tier
        rules = [Fault(text=f"0:{start:02d}.00 to 0:{start + 1:02d}.00", **effect) for start, effect in faults.items()]
        with FakeGemini(faults=rules) as server:
            run_id = run_media(data, film, batch_settings(server, tier=tier, max_attempts=2, max_outage_s=0))
        calls = plain_rows(data, run_id, "llm_calls")
        segment_calls = Counter((c["segment_id"], c["status"], c["code"], c["attempt"]) for c in calls)
        found[tier] = (comparable_rows(data, run_id), segment_calls)
    assert found["batch"] == found["standard"]
    assert len(found["batch"][0]["failures"]) == 6


@pytest.mark.parametrize(("outcome", "code"), [("FAILED", "model_unavailable"), ("EXPIRED", "model_timeout")])
def test_job_that_ends_without_answers_fails_its_calls(tmp_path, film, outcome, code):
    with FakeGemini() as server:
        server.service.batches.outcome = outcome
        run_id = run_media(tmp_path, film, batch_settings(server, max_attempts=1))
    failures = plain_rows(tmp_path, run_id, "failures")
    assert {failure["code"] for failure in failures if failure["segment_id"]} == {code}
    assert all(failure["retryable"] for failure in failures)


def test_job_created_by_a_failed_call_is_found_and_not_paid_again(tmp_path, film, standard):
    with FakeGemini(faults=[Fault(method="batchGenerateContent", first=1, status=503, applies=True)]) as server:
        run_id = run_media(tmp_path, film, batch_settings(server))
        assert server.ledger.repeated() == 0
        assert len(server.service.batches.jobs) == 2
        assert server.ledger.bill() == standard[1] / 2
    assert manifest_of(tmp_path, run_id).status == "completed"


@pytest.mark.parametrize("status", [429, 503])
def test_calls_about_jobs_are_made_again_after_failures(tmp_path, film, standard, monkeypatch, status):
    monkeypatch.setattr(gemini_batch, "MAX_INLINE_JOB_BYTES", 1)
    methods = ("upload", "batchGenerateContent", "listBatches", "getBatch", "download")
    faults = [Fault(method=method, first=2, status=status, retry_delay=0.05) for method in methods]
    with FakeGemini(faults=faults) as server:
        run_id = run_media(tmp_path, film, batch_settings(server))
        assert server.ledger.repeated() == 0
        assert server.ledger.bill() == standard[1] / 2
    assert manifest_of(tmp_path, run_id).status == "completed"


def test_unreachable_job_halts_the_run_and_a_resume_reads_its_answers(tmp_path, film, standard, monkeypatch):
    monkeypatch.setattr("promptreel.providers.batch_watch.MIN_PATIENCE_S", 0.2)
    with FakeGemini(faults=[Fault(method="getBatch", status=503)]) as server:
        run_id = run_media(tmp_path, film, batch_settings(server, max_outage_s=0.2))
        failures = plain_rows(tmp_path, run_id, "failures")
        assert {failure["code"] for failure in failures if failure["segment_id"]} == {"model_unavailable"}
        server.set_faults()
        execute_run(str(tmp_path), run_id)
        assert manifest_of(tmp_path, run_id).status == "completed"
        assert server.ledger.repeated() == 0
        assert server.ledger.bill() == standard[1] / 2


def test_rejected_key_halts_the_run(tmp_path, film):
    with FakeGemini(faults=[Fault(method="batchGenerateContent", status=401)]) as server:
        run_id = run_media(tmp_path, film, batch_settings(server))
        assert len(server.ledger.calls("batchGenerateContent")) == 1
    assert {failure["code"] for failure in plain_rows(tmp_path, run_id, "failures") if failure["segment_id"]} == {
        "model_auth"
    }


def test_after_the_deadline_the_remaining_calls_are_live(tmp_path, film):
    with FakeGemini() as server:
        server.service.batches.stuck_after = 2
        run_id = run_media(tmp_path, film, batch_settings(server, batch_deadline_s=2.0))
        assert "CANCELLED" in {job.ended for job in server.service.batches.jobs.values()}
        assert server.ledger.repeated() == 0
        paid = Counter(entry.tier for entry in server.ledger.answered())
    recorded = Counter(call["tier"] for call in plain_rows(tmp_path, run_id, "llm_calls"))
    assert manifest_of(tmp_path, run_id).status == "completed"
    assert recorded == paid
    assert set(recorded) == {"batch", "standard"}


def test_stopped_run_cancels_its_job_and_uses_what_is_finished(tmp_path, film):
    with FakeGemini() as server:
        server.service.batches.stuck_after = 2
        run_id = create_run(tmp_path, film, batch_settings(server))
        runner = threading.Thread(target=execute_run, args=(str(tmp_path), run_id))
        runner.start()
        wait_for(lambda: len(server.ledger.answered()) >= 2)
        request_stop(open_storage(tmp_path), run_id, "test")
        runner.join(timeout=60)
        (job,) = server.service.batches.jobs.values()
        assert job.ended == "CANCELLED"
        assert manifest_of(tmp_path, run_id).status == "cancelled"
        assert len(plain_rows(tmp_path, run_id, "results")) == len(server.ledger.answered()) == 2
        server.service.batches.stuck_after = None
        clear_stop(open_storage(tmp_path), run_id)
        execute_run(str(tmp_path), run_id)
        assert manifest_of(tmp_path, run_id).status == "completed"
        assert server.ledger.repeated() == 0
