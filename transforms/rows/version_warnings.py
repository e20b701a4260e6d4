"""Warnings of a run about the versions of the model that answered."""

from __future__ import annotations

from collections.abc import Mapping

from promptreel.providers.base import Provider
from promptreel.transforms.rows.counts import SERVED


def version_warnings(provider: Provider, counts: Mapping[str, int]) -> set[str]:
    """Return a warning for each version that is not the run's model, and one if several versions answered.

    Args:
        counts: the counts of the run's manifest.
    """
    names = (name.removeprefix(SERVED) for name, count in counts.items() if name.startswith(SERVED) and count > 0)
    versions = sorted(names)
    found = {
        f"results are answers of {version!r} instead of {provider.name!r}; name the model that answers, or another"
        for version in versions
        if not provider.is_served_by(version)
    }
    if len(versions) > 1:
        found.add(f"the results are answers of {len(versions)} versions of the model: {', '.join(versions)}")
    return found
