"""Prices of models per million tokens, as a user's file and a run's settings hold them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date
from typing import Final

from promptreel.schemas.decoding import FORBID_UNKNOWN
from promptreel.schemas.errors import SettingsError

# A whole number of these is stored and summed: a price with three decimals per million tokens is a whole number of them
# per token, so sums are exact.
NANOS_PER_UNIT: Final = 10**9


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The price of one model, in units of its currency per million tokens.

    Attributes:
        input: input tokens that have no price of their own.
        output: output tokens, including thought tokens.
        cached_input: input tokens that the service read from its cache; None if they cost as much as others.
        audio_input: input tokens of sound; None if they cost as much as others.
        long_input, long_output: prices of a call with more than 200,000 input tokens; None if they are the same.
        flex, batch: factors of all prices in these tiers; the factor of the tier "standard" is 1.
        currency: ISO 4217 code.
        date: the day on which the price was read, ISO 8601.
        source: where it was read.
        valid_from: the first day on which it applies, ISO 8601; None if it is not limited.

    Raises:
        SettingsError: a price is negative or not finite, a factor is out of range, or a code or a date is malformed.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    model: str
    input: float
    output: float
    cached_input: float | None = None
    audio_input: float | None = None
    long_input: float | None = None
    long_output: float | None = None
    flex: float = 0.5
    batch: float = 0.5
    currency: str = "USD"
    date: str | None = None
    source: str | None = None
    valid_from: str | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached_input", "audio_input", "long_input", "long_output"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise SettingsError(f"price of {self.model}: {name} is {value!r}; it must be a number from 0")
        for name in ("flex", "batch"):
            factor = getattr(self, name)
            if not 0 <= factor <= 10:
                raise SettingsError(f"price of {self.model}: {name} is {factor!r}; it must be a factor from 0 to 10")
        if not re.fullmatch("[A-Z]{3}", self.currency):
            raise SettingsError(
                f"price of {self.model}: currency is {self.currency!r}; it must be an ISO 4217 code such as USD"
            )
        for name in ("date", "valid_from"):
            _check_date(self.model, name, getattr(self, name))

    def factor_of(self, tier: str) -> float:
        """Return the factor of all prices in a service tier (`promptreel.schemas.tiers.Tier`)."""
        return {"standard": 1.0, "flex": self.flex, "batch": self.batch}[tier]


def _check_date(model: str, name: str, value: str | None) -> None:
    try:
        if value is not None:
            date.fromisoformat(value)
    except ValueError as error:
        raise SettingsError(f"price of {model}: {name} is {value!r}; it must be a day such as 2026-10-15") from error
