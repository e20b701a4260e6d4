"""The cost of a run: recorded with every call, counted so far, and limited."""

from dataclasses import replace

import pytest

from promptreel.pipelines.runner import execute_run
from promptreel.providers.prices import cost_nanos, price_of
from promptreel.providers.registry import check_run
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.money import Money, money_of
from promptreel.schemas.prices import ModelPrice
from promptreel.schemas.settings import CallSettings, ModelSettings, RunSettings
from promptreel.tables.progress import read_progress
from promptreel.tables.resume_settings import store_changes
from promptreel.tables.storage import open_storage
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import (
    MODEL,
    check_counts,
    create_run,
    kill_runner_after,
    make_video,
    manifest_of,
    run_media,
    settings_for,
)
from tests.pipelines.conftest import frame_settings
from tests.prompts import NESTED

# A price at which every call costs at least 1.
DEAR = ModelPrice(MODEL, input=20_000.0, output=20_000.0)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", 20, sound=False)


def with_prices(settings, *prices):
    return replace(settings, prices=prices)


def money_so_far(data, run_id):
    return money_of(read_progress(open_storage(data), run_id))


def usage_cost(ledger, price):
    return sum(e.input_tokens * price.input + e.output_tokens * price.output for e in ledger.answered()) / 1e6


def test_every_call_records_its_cost(film, tmp_path):
    with FakeGemini() as server:
        run_id = run_media(tmp_path, film, settings_for(server, window_s=5))
        rows = check_counts(tmp_path, run_id)
        price = price_of(MODEL)
        expected = sum(cost_nanos(price, _Usage(call)) for call in rows["llm_calls"])
        assert expected > 0
        assert {call["currency"] for call in rows["llm_calls"]} == {"USD"}
        assert sum(call["cost"] for call in rows["llm_calls"]) == pytest.approx(expected / 1e9)
        assert money_of(manifest_of(tmp_path, run_id).counts) == Money(expected / 1e9, "USD", 0)
        assert money_so_far(tmp_path, run_id) == Money(expected / 1e9, "USD", 0)
        assert expected / 1e9 == pytest.approx(usage_cost(server.ledger, price))


def test_call_without_a_known_price_has_no_cost(film, tmp_path):
    model = "gemini-99-unseen"
    with FakeGemini() as server:
        run_id = run_media(tmp_path, film, settings_for(server, window_s=5, model=model))
        rows = check_counts(tmp_path, run_id)
        assert {(call["cost"], call["currency"]) for call in rows["llm_calls"]} == {(None, None)}
        unknown = Money(None, None, len(rows["llm_calls"]))
        assert money_of(manifest_of(tmp_path, run_id).counts) == unknown
        assert money_so_far(tmp_path, run_id) == unknown


@pytest.mark.parametrize("in_flight", [1, 4])
def test_cost_limit_is_exceeded_by_calls_in_flight_only(film, tmp_path, in_flight):
    with FakeGemini(latency_s=0.02) as server:
        settings = with_prices(frame_settings(server, max_in_flight=in_flight, max_cost=100.0), DEAR)
        run_id = run_media(tmp_path, film, settings)
        rows = check_counts(tmp_path, run_id)
        capped = [row for row in rows["failures"] if row["code"] == "budget_exhausted"]
        assert capped
        assert all(row["retryable"] and row["attempts"] == 0 for row in capped)
        assert "cost limit of 100" in capped[0]["message"]
        costs = [call["cost"] for call in rows["llm_calls"]]
        assert 100 <= sum(costs) < 100 + in_flight * max(costs)
        assert len(server.ledger.calls()) == len(costs) < 20

        calls = len(server.ledger.calls())
        execute_run(str(tmp_path), run_id)
        assert len(server.ledger.calls()) == calls
        store_changes(open_storage(tmp_path), run_id, {"calls.max_cost": 1e6})
        execute_run(str(tmp_path), run_id)
        assert manifest_of(tmp_path, run_id).status == "completed"
        assert server.ledger.repeated() == 0
        total = usage_cost(server.ledger, DEAR)
        assert money_of(manifest_of(tmp_path, run_id).counts).amount == pytest.approx(total)
        assert money_so_far(tmp_path, run_id).amount == pytest.approx(total)


def test_cost_of_a_killed_attempt_counts_against_the_limit(film, tmp_path):
    with FakeGemini() as server:
        settings = with_prices(frame_settings(server, max_in_flight=1, max_cost=100.0), DEAR)
        run_id = create_run(tmp_path, film, settings)
        kill_runner_after(3, tmp_path, run_id)
        spent = usage_cost(server.ledger, DEAR)
        assert 0 < spent < 100
        execute_run(str(tmp_path), run_id)
        total = usage_cost(server.ledger, DEAR)
        assert 100 <= total < 100 + max(call["cost"] for call in check_counts(tmp_path, run_id)["llm_calls"])


def test_cost_limit_with_an_unknown_price_is_rejected():
    model = ModelSettings("gemini-99-unseen")
    settings = RunSettings(model=model, calls=CallSettings(max_cost=5.0))
    with pytest.raises(SettingsError, match="price of model 'gemini-99-unseen' is unknown"):
        check_run(NESTED, settings)
    check_run(NESTED, with_prices(settings, ModelPrice("gemini-99-unseen", 1.0, 1.0)))


class _Usage:
    """The usage of a call record."""

    def __init__(self, call):
        for name in ("input_tokens", "output_tokens", "thought_tokens", "cached_tokens", "audio_tokens"):
            setattr(self, name, call[name])
