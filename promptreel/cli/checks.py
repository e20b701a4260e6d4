"""A finding of `promptreel doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One finding: `state` is ok, warning (works for now), missing (an optional part is unavailable) or broken (runs will
    fail).
    """

    name: str
    state: str
    detail: str
    fix: str = ""
