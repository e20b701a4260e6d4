"""The money of runs over the API: estimate, limit, cost so far, call records and metrics."""

import json

import pytest

from promptreel.api.config import config_from_environment
from promptreel.api.runs.costs import cost_so_far
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.prices import ModelPrice
from tests.api_server import DESCRIBE, MODEL, WINDOWS, ApiServer, assert_error, ok_json
from tests.pipeline_runs import plain_rows

pytest_plugins = ["tests.api_fixtures"]

DEAR = ModelPrice(MODEL, input=20_000.0, output=20_000.0)


def test_body_and_call_records_show_what_the_calls_cost(world):
    run = world.runs[world.run_id]
    rows = plain_rows(world.service.data, world.run_id, "llm_calls")
    paid = sum(row["cost"] for row in rows)
    assert paid > 0
    assert run["actual_cost"] == {"amount": pytest.approx(paid), "currency": "USD", "unpriced_calls": 0}
    assert run["estimated_cost"]["currency"] == "USD"
    assert 0 < run["estimated_cost"]["low"] < run["estimated_cost"]["expected"] < run["estimated_cost"]["high"]
    calls = ok_json(world.caller.get(f"/prompt-runs/{world.run_id}/llm-calls"))
    assert sum(call["cost"] for call in calls) == pytest.approx(paid)
    assert {call["currency"] for call in calls} == {"USD"}
    assert world.runs[world.measured_id]["actual_cost"] == {"amount": None, "currency": None, "unpriced_calls": 0}


def test_metrics_count_the_cost_of_finished_runs(service, world):
    text = service.stranger().http.get(service.base_url + "/metrics").text
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    counted = float(samples[f'promptreel_model_cost_total{{currency="USD",model="{MODEL}"}}'])
    assert counted >= world.runs[world.run_id]["actual_cost"]["amount"] * 0.999


def test_estimate_has_money_its_basis_and_the_limit(world):
    body = {"prompt_id": world.prompt_id, "target": {"type": "index", "index_id": world.index_id}, **WINDOWS}
    response = world.caller.post("/prompt-runs/estimate", {**body, "processing_model": MODEL})
    counts = ok_json(response)["breakdown"]["prompt_run_estimate"]
    assert counts["cost"]["currency"] == "USD"
    assert counts["calibration"]["runs"] == 1
    assert counts["calibration"]["calls"] > 0
    assert (counts["limits"]["max_cost"], counts["limits"]["within"]["cost"]) == (None, True)
    assert set(counts["expected_tokens"]) == {"input", "output", "thought"}


def test_other_accounts_do_not_calibrate_an_estimate(service, world, api_media):
    stranger = service.caller()
    prompt_id = stranger.prompt(DESCRIBE)
    stranger.video(api_media / "a.mp4")
    body = {"prompt_id": prompt_id, "target": {"type": "playground"}, "processing_model": MODEL, **WINDOWS}
    counts = ok_json(stranger.post("/prompt-runs/estimate", body))["breakdown"]["prompt_run_estimate"]
    assert counts["calibration"] is None


@pytest.fixture
def execute(monkeypatch, tmp_path, api_media):
    """Function that executes a run over a video with given settings of the service."""
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    servers = []

    def execute(**settings):
        server = ApiServer(tmp_path / "data", supervise=False, model_base_url="http://127.0.0.1:9", **settings)
        servers.append(server.__enter__())
        caller = server.caller()
        caller.video(api_media / "a.mp4")
        body = {"prompt_id": caller.prompt(DESCRIBE), "target": {"type": "playground"}, **WINDOWS}
        return caller.post("/prompt-runs/execute", {**body, "processing_model": settings.get("default_model", MODEL)})

    yield execute
    for server in servers:
        server.__exit__()


def test_run_that_surely_exceeds_the_cost_limit_is_rejected(execute):
    error = assert_error(execute(max_run_cost=5.0, prices=(DEAR,)), 422, "validation_failed")
    assert "USD exceed the cost limit of one run (5)" in error["message"]


def test_run_within_the_cost_limit_is_accepted(execute):
    assert ok_json(execute(max_run_cost=5.0), 202)["estimated_cost"]["high"] < 5


def test_unknown_price_is_null_and_cannot_be_limited(execute):
    assert ok_json(execute(default_model="gemini-99-unseen"), 202)["estimated_cost"] is None
    error = assert_error(execute(default_model="gemini-99-unseen", max_run_cost=5.0), 422, "validation_failed")
    assert "price of model 'gemini-99-unseen' is unknown" in error["message"]


def test_prices_of_the_service_are_read_at_its_start(tmp_path):
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({MODEL: {"input": 1, "output": 2}}))
    config = config_from_environment({"PROMPTREEL_PRICES": str(file), "PROMPTREEL_MAX_RUN_COST": "2.5"})
    assert (config.prices[0].output, config.max_run_cost) == (2.0, 2.5)
    file.write_text("{}}")
    with pytest.raises(SettingsError, match="PROMPTREEL_PRICES"):
        config_from_environment({"PROMPTREEL_PRICES": str(file)})


def test_cost_so_far_never_decreases():
    spent = {"amount": 2.0, "currency": "USD", "unpriced_calls": 0}
    assert cost_so_far({}, {"actual_cost": spent}) == spent
    assert cost_so_far({"cost_nanos.USD": 10**9}, {"actual_cost": spent}) == spent
    assert cost_so_far({"cost_nanos.USD": 3 * 10**9}, {"actual_cost": spent})["amount"] == 3.0
    assert cost_so_far({"calls.unpriced": 2}, {})["unpriced_calls"] == 2
