"""Runs while their service is repeatedly killed and restarted."""

import random
import time

import httpx2 as httpx
import pytest

from promptreel.api.runs.statuses import FINAL
from promptreel.tables.attempts import last_attempt
from promptreel.tables.manifest import newest_manifest
from promptreel.tables.storage import LocalStorage
from tests.api_server import DESCRIBE, MODEL, ApiProcess, Caller, ok_json
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import make_video, promptreel

RESTARTS = 100
SEGMENTS = 6


@pytest.fixture
def gemini(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    with FakeGemini(latency_s=1.0) as server:
        yield server


@pytest.fixture
def process(tmp_path, gemini):
    server = ApiProcess(tmp_path / "data", MODEL_BASE_URL=gemini.base_url, HEARTBEAT=0.5, MAX_RUNNING=2)
    yield server
    server.stop()


@pytest.mark.slow
def test_killing_the_service_neither_loses_nor_repeats_runs(process, gemini, tmp_path):
    chance = random.Random(7)
    process.start()
    _, key, _ = promptreel("keys", "create", "--data-dir", process.data)
    caller = Caller(process.base_url, key.strip())
    caller.video(make_video(tmp_path / "film.mp4", seconds=SEGMENTS))
    started = {}
    for number in range(RESTARTS):
        if len(_unfinished(caller)) < 3:
            _start(caller, started)
        time.sleep(chance.uniform(0, 1.5))
        if number % 4 == 0:  # a request whose response is lost
            _start(caller, started, lose=process)
        else:
            process.kill()
        process.start()
    for name in started:  # a repeated request starts no new run
        started[name] = _execute(caller, name)
    for run_id in started.values():
        assert caller.wait(run_id, seconds=600)["status"] == "completed"
    runs = ok_json(caller.get("/prompt-runs"))
    assert sorted(run["run_id"] for run in runs) == sorted(started.values())
    assert all(run["completed_segments"] == SEGMENTS for run in runs)
    assert gemini.ledger.repeated() == 0
    assert len(gemini.ledger.entries) == SEGMENTS * len(runs) + len(runs)  # one synthesis per run
    storage = LocalStorage(process.data)
    for run in runs:
        assert newest_manifest(storage, run["run_id"]).number == 1
        assert last_attempt(storage, run["run_id"]) == 1


def _unfinished(caller):
    return [run for run in ok_json(caller.get("/prompt-runs")) if run["status"] not in FINAL]


def _start(caller, started, lose=None):
    """Start a run with a new prompt, so that no stored results apply; kill the service `lose` during the request."""
    name = f"number {len(started)}"
    started[name] = None
    if lose is None:
        started[name] = _execute(caller, name)
        return
    caller.http.timeout = 0.01
    try:
        _execute(caller, name)
    except httpx.TransportError:
        pass
    lose.kill()
    caller.http.timeout = 60


def _execute(caller, name):
    prompt = {**DESCRIBE, "name": name, "prompt_text": f"Describe the segment with everything in it, {name}."}
    prompt_id = ok_json(caller.post("/prompts", prompt, key=name), 201)["prompt_id"]
    return ok_json(caller.execute(prompt_id, {"type": "playground"}, key=name, processing_model=MODEL), 202)["run_id"]
