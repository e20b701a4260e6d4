"""The money of a run: what it is expected to cost at its start, and what its calls have cost so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from promptreel.providers.prices import price_of
from promptreel.providers.registry import provider_of
from promptreel.providers.tiers import tier_of
from promptreel.providers.token_estimate import has_synthesis, stretches_to_mark
from promptreel.providers.usage_estimate import (
    CallUsage,
    marking_usage,
    segment_lengths_s,
    segment_usage,
    synthesis_usage,
)
from promptreel.schemas.media import MediaType
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.money import Money, money_of
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.settings import RunSettings
from promptreel.schemas.spread import Spread, total

NO_COST: Final = Money().to_dict()
_MEDIA_TYPES: Final[tuple[MediaType, ...]] = ("video", "audio", "image")


class _Media(Protocol):
    media_type: str
    duration_us: int | None


def estimated_cost(prompt: Prompt, settings: RunSettings, videos: Sequence[Any]) -> dict[str, Any] | None:
    """Estimate the cost of a run that reuses no results, without embeddings, from the registered type and duration of its
    media; None if the price of the model is unknown."""
    provider = provider_of(settings)
    if not provider.is_called:
        return {"low": 0.0, "expected": 0.0, "high": 0.0, "currency": None}
    price = price_of(settings.model.model, settings.prices)
    if price is None:
        return None
    usages = [usage for kind in _MEDIA_TYPES for usage in _usages_of_type(prompt, settings, videos, kind)]
    cost = total(usage.cost(price, tier_of(provider, settings)) for usage in usages)
    return {**cost.amounts(), "currency": price.currency}


def _usages_of_type(
    prompt: Prompt, settings: RunSettings, videos: Sequence[_Media], kind: MediaType
) -> list[CallUsage]:
    """Estimate the calls for all items of one media type together."""
    items = [video for video in videos if video.media_type == kind]
    if not items:
        return []
    lengths: tuple[Counter[float], Counter[float], Counter[float]] = (Counter(), Counter(), Counter())
    for item in items:
        for counts, more in zip(lengths, segment_lengths_s(settings.segmentation, kind, item.duration_us), strict=True):
            counts.update(more)
    has_pictures, has_sound = kind != "audio", kind != "image"
    found = [segment_usage(prompt, settings, kind, lengths, has_pictures=has_pictures, has_sound=has_sound)]
    stretches = [
        stretch for item in items for stretch in stretches_to_mark(settings.segmentation, kind, item.duration_us)
    ]
    if stretches:
        found.append(marking_usage(settings, kind, stretches, has_pictures=has_pictures, has_sound=has_sound))
    if has_synthesis(prompt, kind):
        seconds = sum(seconds_from_us(item.duration_us or 0) for item in items) / len(items)
        segments = Spread(*(counts.total() / len(items) for counts in lengths))
        found.append(synthesis_usage(prompt, settings, segments, seconds, len(items)))
    return found


def cost_so_far(counts: Mapping[str, int], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cost in the counters of a run as JSON values; it never decreases.

    Args:
        before: the summary of the run so far.
    """
    earlier, found = before.get("actual_cost") or NO_COST, money_of(counts).to_dict()
    is_behind = (found["amount"] or 0.0) < (earlier["amount"] or 0.0)
    return dict(earlier) if is_behind or found == NO_COST else found
