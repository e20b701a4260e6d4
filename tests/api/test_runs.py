"""Runs seen over HTTP alone: they wait their turn, show how far they are, stop when asked, and survive their service."""

import asyncio
import threading
import time

import pytest

from promptreel.api.runs.statuses import FINAL
from tests.api_server import DESCRIBE, MODEL, ApiProcess, ApiServer, Caller, assert_error, ok_json
from tests.fake_gemini import FakeGemini, Fault
from tests.pipeline_runs import make_video, plain_rows, promptreel, wait_for

pytest_plugins = ["tests.api_fixtures"]

KINDS = ("videos", "audios", "images")


class HeldGemini(FakeGemini):
    """A made-up model service whose answers wait until it is told to go on (at most a minute)."""

    def __init__(self):
        self.go_on = threading.Event()
        super().__init__(latency_s=0.0, faults=[])
        answer, service = self.service._pause, self.service

        async def held(fault):
            await answer(fault)
            for _ in range(1200):
                if self.go_on.is_set():
                    return
                await asyncio.sleep(0.05)

        service._pause = held


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """12 s of video."""
    return make_video(tmp_path_factory.mktemp("film") / "film.mp4", seconds=12)


@pytest.fixture
def held(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    with HeldGemini() as gemini:
        yield gemini
        gemini.go_on.set()


def test_a_run_of_a_model_that_is_shut_down_says_so_before_and_after(tmp_path, film, api_media, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    with FakeGemini() as gemini, ApiServer(tmp_path / "data", model_base_url=gemini.base_url) as server:
        caller = server.caller()
        target = {"type": "videos", "video_ids": [caller.video(film)]}
        run_id = caller.start(caller.prompt(DESCRIBE), target, processing_model="gemini-2.5-flash")
        before, after = caller.run(run_id), caller.wait(run_id)
    warning = "model 'gemini-2.5-flash' has the shutdown date 2026-12-01; use gemini-3.5-flash-lite instead"
    assert (before["warnings"], after["warnings"]) == ([warning], [warning])
    assert after["status"] == "failed"
    assert len(gemini.ledger.calls()) < 12  # segments of a second, of which the first refusal halts the rest


def adds_up(run):
    """Every item of a run that has ended is in exactly one counter."""
    for kind in KINDS:
        ended = sum(run[f"{word}_{kind}"] for word in ("completed", "failed", "partial", "cancelled"))
        assert ended == run[f"total_{kind}"], kind
    return True


def test_runs_beyond_the_limit_wait_and_one_that_waits_is_cancelled_at_once(held, tmp_path, film, api_media):
    with ApiServer(tmp_path / "data", max_running=1, model_base_url=held.base_url) as server:
        caller = server.caller()
        video_id = caller.video(film)
        prompt_id, target = caller.prompt(DESCRIBE), {"type": "videos", "video_ids": [video_id]}
        first = caller.start(prompt_id, target, processing_model=MODEL)
        wait_for(lambda: time.sleep(0.05) or len(held.ledger.entries) >= 1, 60)
        second = caller.start(caller.prompt(), target)
        third = caller.start(caller.prompt(), target)
        assert caller.run(first)["status"] == "processing"
        assert_error(caller.post(f"/prompt-runs/{first}/retry-failures", {}), 409, "run_not_finished")

        cancelled = ok_json(caller.post(f"/prompt-runs/{third}/cancel"))
        assert cancelled["status"] == "cancelled"
        assert cancelled["cancelled_videos"] == 1
        assert adds_up(cancelled)
        assert all(cancelled["stop_state"].values())

        # The first is running and is asked to stop; what is in flight is kept.
        asked = ok_json(caller.post(f"/prompt-runs/{first}/cancel"))
        assert asked["stop_state"]["requested_at"]
        assert asked["stop_state"]["mode"] == "graceful"
        assert caller.run(second)["status"] == "pending"
        wait_for(lambda: time.sleep(0.1) or caller.run(first)["stop_state"]["observed_at"], 30)
        held.go_on.set()
        stopped = caller.wait(first)
        assert stopped["status"] in ("cancelled", "completed", "completed_with_failures")
        assert adds_up(stopped)
        assert stopped["stop_state"]["completed_at"]
        rows = plain_rows(server.data, first, "segments")
        assert len(rows) == stopped["total_segments"]
        results = ok_json(caller.get(f"/prompt-runs/{first}/results?video_id={video_id}"))["data"]
        assert sum(row["field_extraction_succeeded"] for row in results) == stopped["completed_segments"]
        assert caller.wait(second)["status"] == "completed"


def test_a_run_that_is_stopped_between_calls_keeps_what_is_finished(monkeypatch, tmp_path, film):
    """Three calls a second; the stop comes in the middle, and no call begins much later."""
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
        assert adds_up(run)
        assert 3 <= run["completed_segments"] < run["total_segments"] == 12
        results = ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video_id}"))["data"]
        assert [row["field_extraction_succeeded"] for row in results].count(True) == run["completed_segments"]
        assert ok_json(caller.post(f"/prompt-runs/{run_id}/cancel")) == run
        segments = ok_json(caller.get(f"/videos/{video_id}/segments?run_id={run_id}"))["data"]
        assert {segment["segment_status"] for segment in segments} == {"successful", "pending"}


@pytest.fixture(scope="module")
def watched(tmp_path_factory, film):
    """Every state that a run of twelve slow calls was seen in, from its start to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEMINI_API_KEY", "any")
        with (
            FakeGemini(rps=3) as gemini,
            ApiServer(tmp_path_factory.mktemp("watched") / "data", model_base_url=gemini.base_url) as server,
        ):
            caller = server.caller()
            caller.video(film)
            run_id = caller.start(caller.prompt(DESCRIBE), {"type": "playground"}, processing_model=MODEL)
            seen = []
            while not seen or seen[-1]["status"] not in FINAL:
                seen.append(caller.run(run_id))
                time.sleep(0.1)
            return seen


def test_calls_show_while_a_run_is_under_way_and_counters_only_rise(watched):
    assert watched[-1]["status"] == "completed"
    statuses = list(dict.fromkeys(run["status"] for run in watched))
    assert statuses == [status for status in ("pending", "processing", "completed") if status in statuses]
    assert any(run["status"] == "processing" and run["model_calls"] > 0 for run in watched)
    for name in ("completed_segments", "model_calls", "total_segments"):
        values = [run[name] for run in watched]
        assert values == sorted(values), name
    kinds = {frozenset(run["actual_tokens"]) for run in watched if run["actual_tokens"]}
    assert kinds == {frozenset(("input", "output", "thought", "cached", "total"))}
    for run in watched:
        assert sum(run[f"{word}_videos"] for word in ("completed", "failed", "partial", "cancelled")) <= 1


def test_finished_segments_show_while_a_run_is_under_way(watched):
    assert any(run["status"] == "processing" and run["completed_segments"] > 0 for run in watched)


def test_a_run_of_which_everything_fails_is_failed_with_a_reason(world):
    run = world.runs[world.lost_id]
    assert run["status"] == "failed"
    assert run["error_message"]
    assert run["failed_videos"] == run["total_videos"] == 1
    assert adds_up(run)
    failures = ok_json(world.caller.get(f"/prompt-runs/{world.lost_id}/failed-segments"))
    assert failures["operation_counts"]["processing"] == 1
    assert failures["videos"][0]["segments"][0]["failure_code"] == "media_not_found"
    assert ok_json(world.caller.get(f"/videos/{world.lost_video_id}"))["status"] == "failed"
    assert (
        ok_json(world.caller.get(f"/prompt-runs/{world.lost_id}/results?video_id={world.lost_video_id}"))["data"] == []
    )


def test_a_model_that_refuses_every_call_fails_the_run(world, api_media):
    """All segments fail, though the media can be read."""
    caller = world.caller
    prompt_id = caller.prompt({**DESCRIBE, "name": "refused", "prompt_text": "Refuse to say anything at all."})
    world.gemini.set_faults(Fault(text="Refuse to say", status=400), *world.gemini.service.faults)
    try:
        target = {"type": "videos", "video_ids": [world.audio_id], "index_id": world.index_id}
        run = caller.wait(caller.start(prompt_id, target, processing_model=MODEL))
    finally:
        world.gemini.set_faults(*world.gemini.service.faults[1:])
    assert run["status"] == "failed"
    assert run["error_message"]
    assert (run["failed_audios"], run["completed_segments"]) == (1, 0)
    assert run["field_extraction_failures"] == run["total_segments"] == 2


@pytest.fixture
def process(tmp_path, held):
    """`promptreel serve` as a process, with the held model service behind it."""
    server = ApiProcess(
        tmp_path / "data", MODEL_BASE_URL=held.base_url, HEARTBEAT=0.5, MAX_RUNNING=1, MEDIA_ROOTS=tmp_path
    )
    yield server
    server.stop()


def test_a_run_outlives_the_death_of_its_service_and_ends_once(process, held, film):
    process.start()
    code, key, _ = promptreel("keys", "create", "--data-dir", process.data)
    assert code == 0
    caller = Caller(process.base_url, key.strip())
    video_id = caller.video(film)
    run_id = caller.start(caller.prompt(DESCRIBE), {"type": "playground"}, processing_model=MODEL)
    wait_for(lambda: time.sleep(0.05) or len(held.ledger.entries) >= 12, 60)
    process.kill()  # the runner goes on without it
    held.go_on.set()
    process.start()
    run = caller.wait(run_id)
    assert run["status"] == "completed"
    assert run["completed_segments"] == 12
    assert adds_up(run)
    results = ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video_id}"))["data"]
    assert [row["start_time"] for row in results] == list(range(12))
    assert held.ledger.repeated() == 0
    again = [found["run_id"] for found in ok_json(caller.get("/prompt-runs"))]
    assert again == [run_id]
    events = _events(caller, run_id)
    assert [kind for kind in events if kind != "prompt_run.progress"] == ["prompt_run.started", "prompt_run.completed"]


def _events(caller, run_id):
    """The kinds of all events of a run that has ended, in order."""
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
