"""A call log that records what each call costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from promptreel.providers.prices import with_cost
from promptreel.schemas.prices import ModelPrice
from promptreel.schemas.table_rows import LlmCallRow
from promptreel.tables.call_log import CallLog


class PricedCallLog(CallLog):
    """Adds the cost to the record of every call that ends.

    Args:
        prices: those of the user.
        arguments, options: of `CallLog`.
    """

    def __init__(self, prices: Sequence[ModelPrice], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._prices = prices

    def end(self, call: LlmCallRow) -> None:
        super().end(with_cost(call, self._prices))
