"""Prices of models: the published table, a user's file, and the cost of a call."""

import json
from datetime import date

import pytest

from promptreel.providers.base import Usage
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL, RETIRED
from promptreel.providers.prices import (
    PRICES,
    check_cost_limit,
    cost_nanos,
    load_prices,
    price_of,
    with_cost,
)
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.prices import ModelPrice
from tests.tables.run_tables import call_row

SIMPLE = ModelPrice("m", input=1.0, output=10.0, cached_input=0.1, audio_input=2.0)


def prices_file(folder, content):
    file = folder / "prices.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_published_prices_have_a_date_and_a_source():
    assert all(price.date and price.source and price.currency == "USD" for price in PRICES)


@pytest.mark.parametrize("model", [DEFAULT_GEMINI_MODEL, *sorted({old.successor for old in RETIRED.values()})])
def test_default_model_and_successors_have_a_price(model):
    assert price_of(model) is not None


def test_unknown_model_has_no_price():
    assert price_of("gemini-99-unseen") is None
    assert price_of("openai:local") is None


def test_resource_prefix_of_a_name_is_ignored():
    assert price_of("models/gemini-2.5-flash") == price_of("gemini-2.5-flash")
    assert price_of("projects/p/locations/l/publishers/google/models/gemini-2.5-flash") is not None


def test_introductory_price_ends_on_its_day():
    assert price_of("gemini-3.8-flash", on=date(2026, 12, 31)).input == 0.75
    assert price_of("gemini-3.8-flash", on=date(2027, 1, 1)).input == 1.5


def test_file_of_the_user_replaces_and_adds_prices(tmp_path, monkeypatch):
    file = prices_file(
        tmp_path,
        {
            "gemini-2.5-flash": {"input": 0.2, "output": 2, "currency": "EUR", "date": "2026-11-02"},
            "openai:local": {"input": 0, "output": 0, "source": "own machine"},
            "later": [{"input": 1, "output": 1}, {"input": 2, "output": 2, "valid_from": "2027-03-01"}],
        },
    )
    own = load_prices(file)
    changed = price_of("gemini-2.5-flash", own)
    assert (changed.input, changed.currency, changed.source, changed.audio_input) == (0.2, "EUR", "prices.json", None)
    assert price_of("openai:local", own).output == 0
    assert price_of("later", own, date(2027, 2, 28)).input == 1
    assert price_of("later", own, date(2027, 3, 1)).input == 2
    assert price_of("gemini-3.5-flash", own).input == 1.5
    monkeypatch.setenv("PROMPTREEL_PRICES", str(file))
    assert load_prices(None) == own
    monkeypatch.delenv("PROMPTREEL_PRICES")
    assert load_prices(None) == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "prices.json: Expecting property name"),
        ([1], "is a JSON list; use an object of model names"),
        ({"m": 3}, "m is 3; use an object with input and output"),
        ({"m": {"input": 1}}, "m: output is missing"),
        ({"m": {"input": "1", "output": 1}}, "m: input is '1'"),
        ({"m": {"input": -1, "output": 1}}, "price of m: input is -1.0; it must be a number from 0"),
        ({"m": {"input": 1, "output": 1, "inptu": 1}}, "m: inptu is unknown"),
        ({"m": {"input": 1, "output": 1, "currency": "dollars"}}, "ISO 4217"),
        ({"m": {"input": 1, "output": 1, "valid_from": "soon"}}, "valid_from is 'soon'; it must be a day"),
        ({"m": {"input": 1, "output": 1, "batch": -0.5}}, "batch is -0.5; it must be a factor from 0 to 10"),
    ],
    ids=str,
)
def test_invalid_prices_name_file_model_and_value(tmp_path, content, message):
    with pytest.raises(SettingsError) as caught:
        load_prices(prices_file(tmp_path, content))
    assert message in str(caught.value)
    assert "prices.json" in str(caught.value)


def test_missing_file_is_an_error():
    with pytest.raises(SettingsError, match=r"no-such\.json"):
        load_prices("no-such.json")


@pytest.mark.parametrize(
    ("usage", "micros"),
    [
        (Usage(input_tokens=1000), 1000),
        (Usage(input_tokens=1000, audio_tokens=400), 600 + 800),
        (Usage(input_tokens=1000, cached_tokens=500), 500 + 50),
        (Usage(input_tokens=1000, cached_tokens=800, audio_tokens=400), 80 + 400),
        (Usage(input_tokens=100, output_tokens=20, thought_tokens=30), 100 + 500),
        (Usage(), 0),
    ],
)
def test_every_kind_of_token_has_its_price(usage, micros):
    assert cost_nanos(SIMPLE, usage) == micros * 1000
    assert cost_nanos(SIMPLE, usage, "batch") == cost_nanos(SIMPLE, usage, "flex") == micros * 500


def test_long_prompts_have_their_own_price():
    price = price_of("gemini-2.5-pro")
    assert cost_nanos(price, Usage(input_tokens=200_000, output_tokens=10)) == 200_000 * 1250 + 10 * 10_000
    assert cost_nanos(price, Usage(input_tokens=200_001, output_tokens=10)) == 200_001 * 2500 + 10 * 15_000


def test_published_price_is_not_that_of_another_provider():
    assert price_of("projects/p/locations/l/publishers/google/models/gemini-3.5-flash") == price_of("gemini-3.5-flash")
    assert price_of("openai:google/gemini-3.5-flash") is None
    own = ModelPrice("openai:google/gemini-3.5-flash", 1, 2)
    assert price_of("openai:google/gemini-3.5-flash", [own]) == own
    assert price_of("openai:other/gemini-3.5-flash", [own]) is None


def test_record_of_a_call_gets_its_cost_if_it_used_tokens():
    used = {"input_tokens": 1000, "output_tokens": 10, "audio_tokens": 100, "total_tokens": 1010}
    called = with_cost(call_row(1, model="m", **used), [SIMPLE])
    assert (called.cost, called.currency) == (0.0012, "USD")
    assert with_cost(call_row(1, model="m", tier="standard", **used), [SIMPLE]).cost == 0.0012
    assert with_cost(call_row(1, model="m", tier="batch", **used), [SIMPLE]).cost == 0.0006
    for unchanged in (call_row(1, model="unknown", **used), call_row(1, model="m", total_tokens=0)):
        assert with_cost(unchanged, [SIMPLE]) == unchanged
        assert unchanged.cost is None


def test_cost_limit_needs_known_prices_in_one_currency():
    check_cost_limit(None, (), ["unknown"])
    check_cost_limit(1.0, (), ["gemini-3.5-flash"])
    with pytest.raises(SettingsError, match=r"max_cost is 1, but the price of model 'unknown' is unknown; .*--prices"):
        check_cost_limit(1.0, (), ["gemini-3.5-flash", "unknown"])
    euros = ModelPrice("mine", 1.0, 1.0, currency="EUR")
    with pytest.raises(SettingsError, match="are in EUR and USD"):
        check_cost_limit(1.0, (euros,), ["gemini-3.5-flash", "mine"])
