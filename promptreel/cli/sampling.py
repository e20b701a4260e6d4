"""`--sample`: its options, and the choice of items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import click

from promptreel.media.probe import probe_media
from promptreel.media.source import local_media
from promptreel.schemas.errors import MediaError
from promptreel.schemas.sampling import MAX_SAMPLE, SAMPLE_UNITS, SampleSettings, random_order, share_out
from promptreel.schemas.settings import RunSettings
from promptreel.schemas.uris import is_remote
from promptreel.tables.request import TargetItem

Command = TypeVar("Command", bound=Callable[..., Any])

SAMPLE_OPTIONS: Final = [
    click.option(
        "--sample",
        type=click.IntRange(1, MAX_SAMPLE),
        metavar="N",
        help="Process only N segments of TARGET, chosen at random and spread over its items.",
    ),
    click.option(
        "--sample-of",
        type=click.Choice(SAMPLE_UNITS),
        default="segments",
        show_default=True,
        help="Sample N segments, or N complete items.",
    ),
    click.option(
        "--sample-seed", type=int, default=0, show_default=True, metavar="N", help="Seed of the sample; repeats it."
    ),
]


def sample_of(options: dict[str, Any]) -> SampleSettings | None:
    """Build the settings of a sample from option values; None without `--sample`."""
    if options["sample"] is None:
        return None
    return SampleSettings(options["sample"], options["sample_of"], options["sample_seed"])


def sample_target(items: Sequence[TargetItem], settings: RunSettings) -> list[TargetItem]:
    """Choose the items of a sample, in their order; of a sample of segments, each with its number of segments.

    Files are probed for the number of their segments, as many as the sample needs. A remote item is not fetched: it is
    taken to have any number. Items that cannot be read get no segments.
    """
    sample = settings.sample
    if sample is None:
        return list(items)
    order = random_order([item.name for item in items], sample.seed)
    if sample.unit == "items":
        return [items[at] for at in sorted(order[: sample.count])]
    least, most, found = [0] * len(items), [0] * len(items), 0
    for at in order:
        if found == sample.count:  # one segment of each item is enough
            break
        least[at], most[at] = _segment_bounds(items[at], settings, sample.count)
        found += most[at] > 0
    if not found:
        return [items[at] for at in sorted(order[: sample.count])]  # the run reports why they cannot be read
    shares = share_out(sample.count, [least[at] for at in order], [most[at] for at in order])
    by_item = dict(zip(order, shares, strict=True))
    return [replace(item, sample_segments=by_item[at]) for at, item in enumerate(items) if by_item[at]]


def _segment_bounds(item: TargetItem, settings: RunSettings, enough: int) -> tuple[int, int]:
    """Return the minimum and maximum number of segments of an item; (0, 0) if it cannot be read."""
    if is_remote(item.uri):
        return 1, enough
    try:
        with local_media(item.uri) as path:
            info = probe_media(path, settings.limits)
    except MediaError:
        return 0, 0
    return settings.segmentation.segment_bounds(info.media_type, info.duration_us)
