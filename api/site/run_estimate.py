"""The estimate of a run as a page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from promptreel.pages.answers import shorten
from promptreel.schemas.mediatime import format_timecode
from promptreel.schemas.money import format_amount

MAX_ITEMS: Final = 200
_MAX_MESSAGE_CHARS: Final = 500
_LIMITS: Final = {
    "items": ("max_items", "items"),
    "segments": ("max_segments", "segments"),
    "tokens": ("max_tokens", "input tokens"),
    "cost": ("max_cost", "of the currency"),
}


@dataclass(frozen=True, slots=True)
class EstimatedItem:
    """One item of an estimated run. `error` is why it would fail."""

    name: str
    media_type: str
    duration: str
    segments: str
    calls: str
    cost: str
    error: str | None


@dataclass(frozen=True, slots=True)
class ShownEstimate:
    """What a run is expected to do and to cost.

    Attributes:
        facts: (name, value) of the totals.
        notes: warnings, exceeded limits, and what the figures rest on.
        items: the first `MAX_ITEMS`.
        fits: whether the run is within the limits of the service.
    """

    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    items: tuple[EstimatedItem, ...]
    item_count: int
    fits: bool


def shown_estimate(body: Mapping[str, Any]) -> ShownEstimate:
    """Return the body of an estimate as a page shows it."""
    counts = body["breakdown"]["prompt_run_estimate"]
    tokens = counts["expected_tokens"]
    facts = (
        ("model", counts["model"]),
        ("cost", _cost(counts["cost"])),
        ("items", _items(counts)),
        ("media", format_timecode(round(counts["media_seconds"] * 1_000_000))),
        ("segments", _span(*_bounds(counts["segment_count"]))),
        ("model calls", _span(*_bounds(counts["model_call_count"]))),
        ("reused results", f"{counts['reused_result_count']:,}"),
        ("input tokens", _spread(tokens["input"])),
        ("output tokens", _spread(tokens["output"])),
    )
    items = tuple(_item(item) for item in counts["items"][:MAX_ITEMS])
    return ShownEstimate(facts, tuple(_notes(body, counts)), items, len(counts["items"]), body["sufficient_balance"])


def _notes(body: Mapping[str, Any], counts: Mapping[str, Any]) -> list[str]:
    found = [str(warning) for warning in body["warnings"]]
    limits = counts["limits"]
    for name, is_within in limits["within"].items():
        if not is_within:
            key, unit = _LIMITS[name]
            found.append(f"The run exceeds the limit of {limits[key]:,} {unit}; choose fewer items.")
    if not counts["exact"]:
        found.append("Segments and calls are bounds until the media is decoded.")
    if counts["token_rates"] == "generic":
        found.append(f"The token rates of {counts['model']} are unknown; typical ones are used.")
    calibration = counts["calibration"]
    if calibration is not None:
        found.append(f"Calibrated by {calibration['calls']:,} earlier calls of this model.")
    return found


def _item(item: Mapping[str, Any]) -> EstimatedItem:
    seconds = item["duration_seconds"]
    return EstimatedItem(
        name=item["name"],
        media_type=item["media_type"] or "not read",
        duration="–" if seconds is None else format_timecode(round(seconds * 1_000_000)),
        segments=_span(*item["segments"]),
        calls=_span(*item["calls"]),
        cost=_cost(item["cost"]),
        error=None if item["error"] is None else shorten(str(item["error"]), _MAX_MESSAGE_CHARS),
    )


def _items(counts: Mapping[str, Any]) -> str:
    failing = counts["item_count"] - counts["eligible_item_count"]
    return f"{counts['item_count']:,}" + (f", {failing:,} of them would fail" if failing else "")


def _cost(cost: Mapping[str, Any] | None) -> str:
    if cost is None:
        return "unknown, because the price of the model is unknown"
    if cost["currency"] is None:
        return "none"
    low, expected, high = (format_amount(cost[name], cost["currency"]) for name in ("low", "expected", "high"))
    return expected + (f" ({low.split()[0]}–{high.split()[0]})" if low != high else "")


def _spread(spread: Mapping[str, int]) -> str:
    low, high = spread["low"], spread["high"]
    return f"{spread['expected']:,}" + (f" ({low:,}–{high:,})" if low != high else "")


def _bounds(span: Mapping[str, int]) -> tuple[int, int]:
    return span["least"], span["most"]


def _span(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,}–{most:,}"
