"""The service tiers of model calls."""

from __future__ import annotations

from typing import Literal

Tier = Literal["standard", "flex", "batch"]
