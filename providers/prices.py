"""Prices of models: the published ones, those of a user's file, and the cost of a call.

A model without a price has an unknown cost, never 0. The prices are those of the paid tier of the Gemini API.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from promptreel.providers.base import Usage
from promptreel.providers.known_models import short_name
from promptreel.schemas.decoding import first_problem
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.prices import NANOS_PER_UNIT, ModelPrice
from promptreel.schemas.table_rows import LlmCallRow

PRICES_VARIABLE: Final = "PROMPTREEL_PRICES"
# Above this many input tokens, a call has the prices `long_input` and `long_output`.
LONG_INPUT_TOKENS: Final = 200_000
_PER_TOKEN: Final = NANOS_PER_UNIT / 1_000_000

_READ: Final = "2026-10-15"
_SOURCE: Final = "ai.google.dev/gemini-api/docs/pricing"
# The introductory prices of these models end on this day.
_AFTER_INTRODUCTION: Final = "2027-01-01"


def _price(model: str, input: float, output: float, cached_input: float | None = None, **more: Any) -> ModelPrice:
    return ModelPrice(model, input, output, cached_input, date=_READ, source=_SOURCE, **more)


PRICES: Final = (
    _price("gemini-2.5-flash-lite", 0.10, 0.40, 0.01, audio_input=0.30),
    _price("gemini-2.5-flash", 0.30, 2.50, 0.03, audio_input=1.00),
    _price("gemini-2.5-pro", 1.25, 10.00, 0.125, long_input=2.50, long_output=15.00),
    _price("gemini-3-flash-preview", 0.50, 3.00, 0.05, audio_input=1.00),
    _price("gemini-3.1-flash-lite", 0.25, 1.50, 0.025, audio_input=0.50),
    _price("gemini-3.1-pro-preview", 2.00, 12.00, 0.20, long_input=4.00, long_output=18.00),
    _price("gemini-3.5-flash-lite", 0.30, 2.50, 0.03),
    _price("gemini-3.5-flash", 1.50, 9.00, 0.15),
    _price("gemini-3.6-flash", 0.75, 3.75, 0.075),
    _price("gemini-3.6-flash", 1.50, 7.50, 0.15, valid_from=_AFTER_INTRODUCTION),
    _price("gemini-3.7-flash", 0.75, 3.75, 0.075),
    _price("gemini-3.7-flash", 1.50, 7.50, 0.15, valid_from=_AFTER_INTRODUCTION),
    _price("gemini-3.8-flash", 0.75, 3.75, 0.075),
    _price("gemini-3.8-flash", 1.50, 7.50, 0.15, valid_from=_AFTER_INTRODUCTION),
    _price("gemini-4-argon", 2.00, 10.00, 0.10),
    _price("gemini-4-argon", 4.00, 20.00, 0.20, valid_from="2026-12-01"),
    _price("gemini-embedding-001", 0.15, 0.0),
    _price("gemini-embedding-2", 0.20, 0.0),
)


def price_of(model: str, own: Sequence[ModelPrice] = (), on: date | None = None) -> ModelPrice | None:
    """Return the price of a model on a day; None if it is unknown.

    Args:
        own: prices of the user, which replace all published prices of the same model.
        on: None for today (UTC).
    """
    day = (on or datetime.now(UTC).date()).isoformat()
    for prices in (own, PRICES):
        named = (price for price in prices if short_name(price.model) == short_name(model))
        valid = [price for price in named if (price.valid_from or "") <= day]
        if valid:
            return max(valid, key=lambda price: price.valid_from or "")
    return None


def load_prices(file: str | os.PathLike[str] | None) -> tuple[ModelPrice, ...]:
    """Load a user's prices: a JSON object of model names, each with its prices as an object or a list of objects.

    Args:
        file: None for the file that PROMPTREEL_PRICES names, or no prices without it.

    Raises:
        SettingsError: the file cannot be read, or a price is invalid.
    """
    name = file or os.environ.get(PRICES_VARIABLE)
    if not name:
        return ()
    try:
        models = json.loads(Path(name).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"prices {os.fspath(name)}: {error}; use a JSON file such as in docs/money.md") from error
    if not isinstance(models, dict):
        raise SettingsError(
            f"prices {os.fspath(name)}: is a JSON {type(models).__name__}; use an object of model names"
        )
    found: list[ModelPrice] = []
    for model, entry in models.items():
        for price in entry if isinstance(entry, list) else [entry]:
            found.append(_own_price(os.fspath(name), model, price))
    return tuple(found)


def _own_price(file: str, model: str, price: Any) -> ModelPrice:
    if not isinstance(price, Mapping):
        raise SettingsError(f"prices {file}: {model} is {price!r}; use an object with input and output")
    try:
        content = json.dumps({"source": Path(file).name, **price, "model": model})
        return _MODEL_PRICE.validate_json(content, strict=True)
    except ValidationError as error:
        raise SettingsError(f"prices {file}: {model}: {first_problem(error)}") from error
    except SettingsError as error:
        raise SettingsError(f"prices {file}: {error}") from error


_MODEL_PRICE: Final = TypeAdapter(ModelPrice)


def with_cost(call: LlmCallRow, own: Sequence[ModelPrice]) -> LlmCallRow:
    """Return the record of an ended call with its cost at today's price.

    The record is unchanged if the price of the model is unknown, or if the call used no tokens.
    """
    price = price_of(call.model, own)
    if price is None or not call.total_tokens:
        return call
    usage = Usage(call.input_tokens, call.output_tokens, call.thought_tokens, call.cached_tokens, call.total_tokens)
    nanos = cost_nanos(price, replace(usage, audio_tokens=call.audio_tokens), call.tier or "standard")
    return replace(call, cost=nanos / NANOS_PER_UNIT, currency=price.currency)


def cost_nanos(price: ModelPrice, usage: Usage, tier: str = "standard") -> int:
    """Return the cost of one call in billionths of the currency; thought tokens are billed as output."""
    is_long = usage.input_tokens > LONG_INPUT_TOKENS and price.long_input is not None
    base = price.long_input if is_long and price.long_input is not None else price.input
    output = price.long_output if is_long and price.long_output is not None else price.output
    scale = base / price.input if price.input else 1.0  # of the other prices of input
    cached = min(usage.cached_tokens, usage.input_tokens)
    # The service does not say which tokens were cached: shared text comes first in a request, sound last.
    audio = min(usage.audio_tokens, usage.input_tokens - cached)
    cost = (
        (usage.input_tokens - cached - audio) * base
        + cached * (price.input if price.cached_input is None else price.cached_input) * scale
        + audio * (price.input if price.audio_input is None else price.audio_input) * scale
        + (usage.output_tokens + usage.thought_tokens) * output
    )
    return round(cost * price.factor_of(tier) * _PER_TOKEN)


def check_cost_limit(limit: float | None, own: Sequence[ModelPrice], models: Sequence[str]) -> None:
    """Reject a cost limit that cannot be checked.

    Args:
        models: the models that the run calls.

    Raises:
        SettingsError: the price of a model is unknown, or the prices have different currencies.
    """
    if limit is None:
        return
    prices = {model: price_of(model, own) for model in models}
    if unknown := [model for model, price in prices.items() if price is None]:
        raise SettingsError(
            f"max_cost is {limit:g}, but the price of model {unknown[0]!r} is unknown; give it with --prices FILE "
            f"({PRICES_VARIABLE}), or limit tokens with --max-tokens"
        )
    currencies = sorted({price.currency for price in prices.values() if price is not None})
    if len(currencies) > 1:
        raise SettingsError(
            f"max_cost is {limit:g}, but the prices of {' and '.join(prices)} are in {' and '.join(currencies)}; "
            "give all in one currency with --prices FILE"
        )
