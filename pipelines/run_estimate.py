"""The estimate of a run as JSON values: counts, tokens and money of its items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from promptreel.pipelines.calibration import Calibration
from promptreel.providers.prices import price_of
from promptreel.providers.usage_estimate import CallKind, CallUsage, cost_of_calls
from promptreel.schemas.media import MediaType
from promptreel.schemas.prices import ModelPrice, Tier
from promptreel.schemas.settings import RunSettings
from promptreel.schemas.spread import Spread, total


@dataclass(frozen=True)
class ItemEstimate:
    """The estimate of one item.

    Attributes:
        segments: minimum and maximum; equal if the segments are known.
        calls: minimum and maximum number of calls for segments, the synthesis, and batches of texts to embed with a remote
            model.
        reused: number of results (including the synthesis) in the operation cache.
        tokens: maximum input tokens by modality; "embedding" is for the texts to embed.
        error: why the item would fail; None if it is readable.
        usages: the estimated usage of its calls, by kind.
    """

    name: str
    media_type: MediaType | None
    duration_seconds: float | None
    segments: tuple[int, int]
    calls: tuple[int, int]
    reused: int
    tokens: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    usages: tuple[CallUsage, ...] = ()


@dataclass(frozen=True)
class RunEstimate:
    """The estimate of a complete run.

    Attributes:
        prices: the price of the model of each kind of call; None if it is unknown.
        tier: the tier in which the calls are billed.
        calibration: the records of earlier runs that correct the usage of the items.
    """

    model: str
    items: tuple[ItemEstimate, ...]
    prices: Mapping[CallKind, ModelPrice | None] = field(default_factory=dict)
    tier: Tier = "standard"
    calibration: Calibration = field(default_factory=Calibration)

    def to_dict(self) -> dict[str, Any]:
        """Convert totals and items to JSON values."""
        tokens: dict[str, int] = {}
        for item in self.items:
            for name, count in item.tokens.items():
                tokens[name] = tokens.get(name, 0) + count
        readable = [item for item in self.items if item.error is None]
        return {
            "model": self.model,
            "items": len(self.items),
            "eligible_items": len(readable),
            "media_seconds": round(sum(item.duration_seconds or 0 for item in readable), 3),
            "segments": [sum(item.segments[side] for item in readable) for side in (0, 1)],
            "model_calls": [sum(item.calls[side] for item in readable) for side in (0, 1)],
            "reused_results": sum(item.reused for item in readable),
            "input_tokens": {**tokens, "total": sum(tokens.values())},
            "exact": all(item.segments[0] == item.segments[1] for item in readable),
            **self._usage_and_cost(readable),
            "calibration": self.calibration.to_dict(),
            "details": [self._item_dict(item) for item in self.items],
        }

    def _item_dict(self, item: ItemEstimate) -> dict[str, Any]:
        values = {part.name: getattr(item, part.name) for part in fields(item) if part.name != "usages"}
        return {**values, **self._usage_and_cost([item])}

    def _usage_and_cost(self, items: Sequence[ItemEstimate]) -> dict[str, Any]:
        """Return the tokens and the money of all calls, as low, expected and high values; cost is None if unknown."""
        usages = [self.calibration.applied(usage) for item in items for usage in item.usages]
        cost = cost_of_calls(usages, self.prices, self.tier)
        return {
            "expected_tokens": {
                "input": total(usage.total_input() for usage in usages).rounded(),
                "output": total(usage.total_output() for usage in usages).rounded(),
                "thought": total(usage.calls * usage.thoughts for usage in usages).rounded(),
            },
            "cost": None if cost is None else {**cost_dict(cost), **self._price_dict(usages)},
        }

    def _price_dict(self, usages: Sequence[CallUsage]) -> dict[str, Any]:
        kinds = {usage.kind for usage in usages} or set(self.prices)
        known = [price for kind, price in self.prices.items() if kind in kinds and price is not None]
        first = known[0] if known else None
        return {
            "currency": first.currency if first is not None else None,
            "tier": self.tier,
            "price_date": first.date if first is not None else None,
            "price_source": first.source if first is not None else None,
        }


def cost_dict(cost: Spread) -> dict[str, float]:
    """Return a cost as JSON values, in units of the currency."""
    low, expected, high = (round(value, 9) for value in cost.bounds())
    return {"low": low, "expected": expected, "high": high}


def prices_of_calls(settings: RunSettings) -> dict[CallKind, ModelPrice | None]:
    """Return the price of the model that each kind of call uses; None if it is unknown."""
    kinds: tuple[CallKind, ...] = ("video", "audio", "image", "synthesis")
    price = price_of(settings.model.model, settings.prices)
    return {**dict.fromkeys(kinds, price), "embedding": price_of(settings.text_embedding.model, settings.prices)}
