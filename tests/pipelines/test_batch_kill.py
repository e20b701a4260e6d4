"""A runner that is killed at any step of a batch job: the resume finds the job, and nothing is paid twice."""

import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.tables.resume_settings import store_changes
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import check_counts, create_run, make_video, manifest_of, plain_rows, run_media
from tests.pipelines.batch_runs import SECONDS, _short_waits, batch_settings, kill_runner_at  # noqa: F401

JOBS = "promptreel.providers.gemini_batch:GeminiBatchJobs"
STEPS = {
    "before submitting": f"{JOBS}:submit:before:1",
    "after submitting, before the name is stored": f"{JOBS}:submit:after:1",
    "after the name is stored": "promptreel.tables.batch_groups:BatchGroups:store:after:2",
    "while polling": f"{JOBS}:state:after:2",
    "after reading, before recording": f"{JOBS}:results:after:1",
    "while recording": "promptreel.tables.call_log:CallLog:end:before:2",
    "after recording, before caching": "promptreel.tables.operation_cache:OperationCache:put:before:1",
    "while caching": "promptreel.tables.operation_cache:OperationCache:put:before:3",
    "while polling the synthesis": f"{JOBS}:submit:after:2",
}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", SECONDS, sound=False)


@pytest.fixture(scope="module")
def standard_bill(tmp_path_factory, film):
    """The price of the run at the standard tier."""
    with FakeGemini() as server:
        run_media(tmp_path_factory.mktemp("standard"), film, batch_settings(server, tier="standard"))
        return server.ledger.bill()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.usefixtures("_short_waits")
def test_killed_run_resumes_its_job_and_pays_nothing_twice(tmp_path, film, standard_bill, step):
    with FakeGemini(batch_s=1.0) as server:
        run_id = create_run(tmp_path, film, batch_settings(server))
        kill_runner_at(STEPS[step], tmp_path, run_id)
        execute_run(str(tmp_path), run_id)
        assert manifest_of(tmp_path, run_id).status == "completed"
        assert server.ledger.repeated() == 0
        assert len(server.service.batches.jobs) == 2  # one for the segments, one for the synthesis
        assert server.ledger.bill() == standard_bill / 2
    rows = check_counts(tmp_path, run_id)
    assert {call["tier"] for call in rows["llm_calls"]} == {"batch"}
    assert len(rows["llm_calls"]) == len(server.ledger.answered())


@pytest.mark.usefixtures("_short_waits")
def test_job_killed_and_resumed_at_the_standard_tier_is_cancelled_and_its_answers_used(tmp_path, film):
    with FakeGemini() as server:
        server.service.batches.stuck_after = 2
        run_id = create_run(tmp_path, film, batch_settings(server))
        kill_runner_at(f"{JOBS}:state:after:2", tmp_path, run_id)
        store_changes(open_storage(tmp_path), run_id, {"model.tier": "standard"})
        execute_run(str(tmp_path), run_id)
        assert manifest_of(tmp_path, run_id).status == "completed"
        assert server.ledger.repeated() == 0
        (job,) = server.service.batches.jobs.values()
        assert job.ended == "CANCELLED"
    tiers = sorted(call["tier"] for call in plain_rows(tmp_path, run_id, "llm_calls"))
    assert set(tiers) == {"batch", "standard"}
    assert len(tiers) == len(server.ledger.answered())
