"""The expected usage and money of a run's calls: per kind of call, and as JSON values of items and runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from promptreel.pipelines.calibration import Calibration, calibrate
from promptreel.providers.base import Provider
from promptreel.providers.prices import price_of
from promptreel.providers.tiers import tier_of
from promptreel.providers.usage_estimate import (
    CallKind,
    CallUsage,
    Lengths,
    cost_of_calls,
    marking_usage,
    segment_usage,
    synthesis_usage,
)
from promptreel.schemas.media import MediaInfo, TimeSpan
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.prices import ModelPrice
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.settings import RunSettings
from promptreel.schemas.spread import Spread, total
from promptreel.schemas.tiers import Tier
from promptreel.tables.storage import Storage

_KINDS_OF_MODEL: Final[tuple[CallKind, ...]] = ("video", "audio", "image", "segmentation", "synthesis")
_GUESSED_SHARE: Final = Spread(0.2, 0.5, 1)  # of the maximum of texts to embed, while they do not exist


@dataclass(frozen=True)
class MoneyBasis:
    """What turns the usage of calls into money.

    Attributes:
        prices: the price of the model of each kind of call; None if it is unknown.
        tier: the tier in which the calls are billed.
        calibration: the records of earlier runs, which correct the usage.
    """

    prices: Mapping[CallKind, ModelPrice | None] = field(default_factory=dict)
    tier: Tier = "standard"
    calibration: Calibration = field(default_factory=Calibration)

    def to_dict(self, usages: Iterable[CallUsage]) -> dict[str, Any]:
        """Return the tokens and the money of calls as low, expected and high values; cost is None if it is unknown."""
        corrected = [self.calibration.applied(usage) for usage in usages]
        cost = cost_of_calls(corrected, self.prices, self.tier)
        return {
            "expected_tokens": {
                "input": total(usage.total_input() for usage in corrected).rounded(),
                "output": total(usage.total_output() for usage in corrected).rounded(),
                "thought": total(usage.calls * usage.thoughts for usage in corrected).rounded(),
            },
            "cost": None if cost is None else {**cost.amounts(), **self._price_dict(corrected)},
        }

    def _price_dict(self, usages: Sequence[CallUsage]) -> dict[str, Any]:
        kinds = {usage.kind for usage in usages} or set(self.prices)
        price = next((price for kind, price in self.prices.items() if kind in kinds and price is not None), None)
        return {
            "currency": price.currency if price is not None else None,
            "tier": self.tier,
            "price_date": price.date if price is not None else None,
            "price_source": price.source if price is not None else None,
        }


def money_basis(
    storage: Storage, prompt: Prompt, settings: RunSettings, provider: Provider, owner: str | None
) -> MoneyBasis:
    """Return the prices and the calibration of a run.

    Args:
        owner: account whose earlier runs count, see `RunRequest`.
    """
    price = price_of(settings.model.model, settings.prices)
    prices: dict[CallKind, ModelPrice | None] = dict.fromkeys(_KINDS_OF_MODEL, price)
    prices["embedding"] = price_of(settings.text_embedding.model, settings.prices)
    calibration = calibrate(storage, prompt, settings, owner) if provider.is_called else Calibration()
    return MoneyBasis(prices, tier_of(provider, settings), calibration)


def usages_of_item(
    info: MediaInfo,
    lengths: Lengths,
    syntheses: int,
    prompt: Prompt,
    settings: RunSettings,
    provider: Provider,
    unmarked: Sequence[TimeSpan] = (),
    segments: int | None = None,
) -> tuple[CallUsage, ...]:
    """Estimate the calls of an item, without embeddings.

    Args:
        lengths: of the segments to extract.
        unmarked: stretches in which the model has yet to mark segments.
        segments: number of segments that a synthesis reads, if some are not to be extracted.
    """
    if not provider.is_called:
        return ()
    found = []
    has_pictures, has_sound = info.video is not None, info.audio_index is not None
    if unmarked:
        found.append(marking_usage(settings, info.media_type, unmarked, has_pictures=has_pictures, has_sound=has_sound))
    if any(lengths):
        found.append(
            segment_usage(prompt, settings, info.media_type, lengths, has_pictures=has_pictures, has_sound=has_sound)
        )
    if syntheses:
        seconds = seconds_from_us(info.duration_us or 0)
        read = Spread(*(sum(counts.values()) if segments is None else segments for counts in lengths))
        found.append(synthesis_usage(prompt, settings, read, seconds, syntheses))
    return tuple(found)


def embedding_usage(calls: tuple[int, int], tokens: Mapping[str, int], *, is_guess: bool) -> tuple[CallUsage, ...]:
    """Estimate the calls that embed texts; empty without texts.

    Args:
        calls: minimum and maximum.
        tokens: {"embedding": maximum input tokens}.
        is_guess: the texts do not exist yet.
    """
    if not tokens:
        return ()
    share = _GUESSED_SHARE if is_guess else Spread.exactly(1)
    counts = Spread(calls[0], sum(calls) / 2, calls[1])
    return (CallUsage("embedding", counts, share.scaled(tokens["embedding"])),)
