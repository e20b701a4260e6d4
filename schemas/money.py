"""Money so far: the counters of a run's costs, and how they are shown.

Counters are whole numbers: `cost_nanos.<currency>` in billionths of the currency, and `calls.unpriced`, the calls that
used tokens of a model whose price is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from promptreel.schemas.prices import NANOS_PER_UNIT

COST_PREFIX: Final = "cost_nanos."
UNPRICED_CALLS: Final = "calls.unpriced"


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of money for calls.

    Attributes:
        amount: in units of the currency; None if it is unknown.
        currency: ISO 4217 code; None without an amount.
        unpriced_calls: calls that are not in the amount, because the price of their model is unknown.
    """

    amount: float | None = None
    currency: str | None = None
    unpriced_calls: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {"amount": self.amount, "currency": self.currency, "unpriced_calls": self.unpriced_calls}


def cost_counts(cost: float | None, currency: str | None, total_tokens: int) -> dict[str, int]:
    """Return the counters of one call record."""
    if cost is not None and currency is not None:
        return {f"{COST_PREFIX}{currency}": nanos_of(cost)}
    return {UNPRICED_CALLS: 1} if total_tokens else {}


def money_of(counts: Mapping[str, int]) -> Money:
    """Return the money in the counters of a run. Without any call it is unknown, as the currency is."""
    costs = {name.removeprefix(COST_PREFIX): nanos for name, nanos in counts.items() if name.startswith(COST_PREFIX)}
    unpriced = counts.get(UNPRICED_CALLS, 0)
    if len(costs) != 1:
        return Money(unpriced_calls=unpriced)
    ((currency, nanos),) = costs.items()
    return Money(nanos / NANOS_PER_UNIT, currency, unpriced)


def nanos_of(cost: float) -> int:
    """Return an amount in billionths of its currency."""
    return round(cost * NANOS_PER_UNIT)


def total_nanos(counts: Mapping[str, int]) -> int:
    """Return the costs in the counters of a run, whatever their currency."""
    return sum(nanos for name, nanos in counts.items() if name.startswith(COST_PREFIX))


def merged(counters: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums of counters."""
    total: dict[str, int] = {}
    for counts in counters:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def format_amount(amount: float, currency: str) -> str:
    """Render an amount.

    >>> format_amount(12.5, "USD"), format_amount(0.0123, "USD"), format_amount(0.0000321, "USD")
    ('12.50 USD', '0.0123 USD', '0.0000321 USD')
    """
    decimals = 2 if amount >= 1 or not amount else 4 if amount >= 0.001 else 7
    return f"{amount:,.{decimals}f} {currency}"


def format_money(money: Money) -> str | None:
    """Render money; None if no call used a token."""
    if money.amount is None or money.currency is None:
        return f"unknown ({_calls(money.unpriced_calls)})" if money.unpriced_calls else None
    amount = format_amount(money.amount, money.currency)
    return f"at least {amount} ({_calls(money.unpriced_calls)})" if money.unpriced_calls else amount


def _calls(count: int) -> str:
    return f"{count} {'call' if count == 1 else 'calls'} of a model without a known price"
