"""Runs over HTTP: queueing, progress, cancellation, failures, and restart of the service."""

import asyncio
import threading
import time

import pytest

from promptreel.api.runs.statuses import FINAL
from promptreel.providers.known_models import KNOWN_MODELS
from tests.api_server import DESCRIBE, MODEL, ApiProcess, ApiServer, Caller, assert_error, ok_json
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import make_video, plain_rows, promptreel, wait_for

pytest_plugins = ["tests.api_fixtures"]

KINDS = ("videos", "audios", "images")


class HeldGemini(FakeGemini):
    """A fake model service that holds its answers until `go_on` is set, for at most a minute."""

    def __init__(self):
        self.go_on = threading.Event()
        super().__init__(latency_s=0.0, faults=[])
        pause, service = self.service._pause, self.service

        async def hold(fault):
            await pause(fault)
            for _ in range(1200):
                if self.go_on.is_set():
                    return
                await asyncio.sleep(0.05)

        service._pause = hold


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A video of 12 s."""
    return make_video(tmp_path_factory.mktemp("film") / "film.mp4", seconds=12)


@pytest.fixture
def held_gemini(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    with HeldGemini() as gemini:
        yield gemini
        gemini.go_on.set()


def test_run_of_a_shut_down_model_warns_before_and_after(tmp_path, film, api_media, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    retired = "gemini-2.5-flash"
    proxy = FakeGemini(has_models=False)  # cannot look up models
    with proxy as gemini, ApiServer(tmp_path / "data", model_base_url=gemini.base_url) as server:
        caller = server.caller()
        target = {"type": "videos", "video_ids": [caller.video(film)]}
        run_id = caller.start(caller.prompt(DESCRIBE), target, processing_model=retired)
        before, after = caller.run(run_id), caller.wait(run_id)
    known = KNOWN_MODELS[retired]
    warning = f"model '{retired}' has the shutdown date {known.shutdown_date}; use {known.successor} instead"
    assert (before["warnings"], after["warnings"]) == ([warning], [warning])
    assert after["status"] == "failed"
    assert len(gemini.ledger.calls()) < 12  # the first rejected call stops the calls for the other segments


def has_consistent_counters(run):
    """Check that each item of a finished run is in exactly one counter."""
    for kind in KINDS:
        total = sum(run[f"{outcome}_{kind}"] for outcome in ("completed", "failed", "partial", "cancelled"))
        assert total == run[f"total_{kind}"], kind
    return True


def test_runs_over_the_limit_wait_and_are_cancelled_at_once(held_gemini, tmp_path, film, api_media):
    with ApiServer(tmp_path / "data", max_running=1, model_base_url=held_gemini.base_url) as server:
        caller = server.caller()
        video_id = caller.video(film)
        prompt_id, target = caller.prompt(DESCRIBE), {"type": "videos", "video_ids": [video_id]}
        first = caller.start(prompt_id, target, processing_model=MODEL)
        wait_for(lambda: time.sleep(0.05) or len(held_gemini.ledger.entries) >= 1, 60)
        second = caller.start(caller.prompt(), target)
        third = caller.start(caller.prompt(), target)
        assert caller.run(first)["status"] == "processing"
        assert_error(caller.post(f"/prompt-runs/{first}/retry-failures", {}), 409, "run_not_finished")

        cancelled = ok_json(caller.post(f"/prompt-runs/{third}/cancel"))
        assert cancelled["status"] == "cancelled"
        assert cancelled["cancelled_videos"] == 1
        assert has_consistent_counters(cancelled)
        assert all(cancelled["stop_state"].values())

        # The first run is in progress: its calls in flight finish and their results are saved.
        cancelling = ok_json(caller.post(f"/prompt-runs/{first}/cancel"))
        assert cancelling["stop_state"]["requested_at"]
        assert cancelling["stop_state"]["mode"] == "graceful"
        assert caller.run(second)["status"] == "pending"
        wait_for(lambda: time.sleep(0.1) or caller.run(first)["stop_state"]["observed_at"], 30)
        held_gemini.go_on.set()
        stopped = caller.wait(first)
        assert stopped["status"] in ("cancelled", "completed", "completed_with_failures")
        assert has_consistent_counters(stopped)
        assert stopped["stop_state"]["completed_at"]
        rows = plain_rows(server.data, first, "segments")
        assert len(rows) == stopped["total_segments"]
        results = ok_json(caller.get(f"/prompt-runs/{first}/results?video_id={video_id}"))["data"]
        assert sum(row["field_extraction_succeeded"] for row in results) == stopped["completed_segments"]
        assert caller.wait(second)["status"] == "completed"


def test_run_cancelled_between_calls_keeps_finished_results(monkeypatch, tmp_path, film):
    """The service answers three calls per second, and the run is cancelled midway."""
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    with (
        FakeGemini(rps=3) as gemini,
        ApiServer(tmp_path / "data", model_base_url=gemini.base_url) as server,
    ):
        caller = server.caller()
        video_id = caller.video(film)
        run_id = caller.start(caller.prompt(DESCRIBE), {"type": "playground"}, processing_model=MODEL)
        wait_for(lambda: time.sleep(0.05) or len(gemini.ledger.answered()) >= 3, 60)
        ok_json(caller.post(f"/prompt-runs/{run_id}/cancel"))
        run = caller.wait(run_id)
        assert run["status"] == "cancelled"
        assert has_consistent_counters(run)
        assert 3 <= run["completed_segments"] < run["total_segments"] == 12
        results = ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video_id}"))["data"]
        assert [row["field_extraction_succeeded"] for row in results].count(True) == run["completed_segments"]
        assert ok_json(caller.post(f"/prompt-runs/{run_id}/cancel")) == run
        segments = ok_json(caller.get(f"/videos/{video_id}/segments?run_id={run_id}"))["data"]
        assert {segment["segment_status"] for segment in segments} == {"successful", "cancelled"}


@pytest.fixture(scope="module")
def polled_states(tmp_path_factory, film):
    """All polled states of a run of twelve slow calls, from start to end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEMINI_API_KEY", "any")
        with (
            FakeGemini(rps=3) as gemini,
            ApiServer(tmp_path_factory.mktemp("polled") / "data", model_base_url=gemini.base_url) as server,
        ):
            caller = server.caller()
            caller.video(film)
            run_id = caller.start(caller.prompt(DESCRIBE), {"type": "playground"}, processing_model=MODEL)
            seen = []
            while not seen or seen[-1]["status"] not in FINAL:
                seen.append(caller.run(run_id))
                time.sleep(0.1)
            return seen


def test_calls_are_counted_during_a_run_and_counters_only_increase(polled_states):
    assert polled_states[-1]["status"] == "completed"
    statuses = list(dict.fromkeys(run["status"] for run in polled_states))
    assert statuses == [status for status in ("pending", "processing", "completed") if status in statuses]
    assert any(run["status"] == "processing" and run["model_calls"] > 0 for run in polled_states)
    for name in ("completed_segments", "model_calls", "total_segments"):
        values = [run[name] for run in polled_states]
        assert values == sorted(values), name
    kinds = {frozenset(run["actual_tokens"]) for run in polled_states if run["actual_tokens"]}
    assert kinds == {frozenset(("input", "output", "thought", "cached", "total"))}
    for run in polled_states:
        assert sum(run[f"{word}_videos"] for word in ("completed", "failed", "partial", "cancelled")) <= 1


def test_finished_segments_are_counted_during_a_run(polled_states):
    assert any(run["status"] == "processing" and run["completed_segments"] > 0 for run in polled_states)


def test_run_whose_items_all_fail_is_failed_with_an_error(world):
    run = world.runs[world.lost_id]
    assert run["status"] == "failed"
    assert run["error_message"]
    assert run["failed_videos"] == run["total_videos"] == 1
    assert has_consistent_counters(run)
    failures = ok_json(world.caller.get(f"/prompt-runs/{world.lost_id}/failed-segments"))
    assert failures["operation_counts"]["processing"] == 1
    assert failures["videos"][0]["segments"][0]["failure_code"] == "media_not_found"
    assert ok_json(world.caller.get(f"/videos/{world.lost_video_id}"))["status"] == "failed"
    assert (
        ok_json(world.caller.get(f"/prompt-runs/{world.lost_id}/results?video_id={world.lost_video_id}"))["data"] == []
    )


def test_run_whose_calls_are_all_rejected_is_failed(world, caller, api_media):
    """The media is readable, but all its segments fail."""
    video_id = caller.video(api_media / "b.flac")
    prompt_id = caller.prompt({**DESCRIBE, "name": "refused", "prompt_text": "Refuse to say anything at all."})
    world.gemini.set_faults(Fault(text="Refuse to say", status=400), *world.gemini.service.faults)
    try:
        target = {"type": "videos", "video_ids": [video_id]}
        run = caller.wait(caller.start(prompt_id, target, processing_model=MODEL))
    finally:
        world.gemini.set_faults(*world.gemini.service.faults[1:])
    assert run["status"] == "failed"
    assert run["error_message"]
    assert (run["failed_audios"], run["completed_segments"]) == (1, 0)
    assert run["field_extraction_failures"] == run["total_segments"] == 2


@pytest.fixture
def process(tmp_path, held_gemini):
    """`promptreel serve` in its own process, with a held model service."""
    server = ApiProcess(
        tmp_path / "data", MODEL_BASE_URL=held_gemini.base_url, HEARTBEAT=0.5, MAX_RUNNING=1, MEDIA_ROOTS=tmp_path
    )
    yield server
    server.stop()


def test_run_survives_the_death_of_its_service(process, held_gemini, film):
    process.start()
    code, key, _ = promptreel("keys", "create", "--data-dir", process.data)
    assert code == 0
    caller = Caller(process.base_url, key.strip())
    video_id = caller.video(film)
    run_id = caller.start(caller.prompt(DESCRIBE), {"type": "playground"}, processing_model=MODEL)
    wait_for(lambda: time.sleep(0.05) or len(held_gemini.ledger.entries) >= 12, 60)
    process.kill()  # the runner continues without the service
    held_gemini.go_on.set()
    process.start()
    run = caller.wait(run_id)
    assert run["status"] == "completed"
    assert run["completed_segments"] == 12
    assert has_consistent_counters(run)
    results = ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video_id}"))["data"]
    assert [row["start_time"] for row in results] == list(range(12))
    assert held_gemini.ledger.repeated() == 0
    run_ids = [found["run_id"] for found in ok_json(caller.get("/prompt-runs"))]
    assert run_ids == [run_id]
    events = _event_types(caller, run_id)
    assert [kind for kind in events if kind != "prompt_run.progress"] == ["prompt_run.started", "prompt_run.completed"]


def _event_types(caller, run_id):
    """Return the types of all events of a finished run, in order."""
    kinds = []
    filters = {"run_id": run_id}
    with caller.http.stream(
        "GET", "/processing/events/stream", params=filters, headers={"Last-Event-ID": "0"}
    ) as response:
        for line in response.iter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
            if kinds and kinds[-1].removeprefix("prompt_run.") in FINAL:
                return kinds
    return kinds
