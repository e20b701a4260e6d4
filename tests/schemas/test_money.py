"""Money so far: unknown is never 0."""

import pytest

from promptreel.schemas.money import Money, cost_counts, format_amount, format_money, merged, money_of


def test_counters_of_calls_add_up_to_money():
    counts = merged([cost_counts(0.1, "USD", 50), cost_counts(0.2, "USD", 50), cost_counts(0.0, "USD", 0)])
    assert money_of(counts) == Money(0.3, "USD", 0)


def test_calls_without_a_price_are_unknown_not_free():
    assert money_of(cost_counts(None, None, 50)) == Money(None, None, 1)
    assert cost_counts(None, None, 0) == {}
    mixed = money_of(merged([cost_counts(0.1, "USD", 50), cost_counts(None, None, 7)]))
    assert mixed == Money(0.1, "USD", 1)
    assert format_money(mixed) == "at least 0.1000 USD (1 call of a model without a known price)"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "0.00 USD"),
        (12.345, "12.35 USD"),
        (1234.5, "1,234.50 USD"),
        (0.01234, "0.0123 USD"),
        (4e-5, "0.0000400 USD"),
    ],
)
def test_small_amounts_are_not_rounded_to_nothing(amount, text):
    assert format_amount(amount, "USD") == text


def test_no_call_shows_no_money():
    assert format_money(money_of({})) is None
    assert format_money(Money(None, None, 2)) == "unknown (2 calls of a model without a known price)"
