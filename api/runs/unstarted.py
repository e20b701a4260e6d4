"""Counters of a run, or of an item of it, whose segments were never cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from promptreel.api.db.models import RunRecord, Video
from promptreel.api.runs.statuses import ITEM_OUTCOMES, MEDIA_TYPES
from promptreel.schemas.settings import settings_from_dict


def counters_without_results(summary: Mapping[str, Any], outcome: Literal["failed", "cancelled"]) -> dict[str, int]:
    """Return the counters of a run that ended without tables: all its items and syntheses have this outcome."""
    kinds = [plural for _, plural in MEDIA_TYPES]
    counters = {f"{word}_{plural}": 0 for word in ITEM_OUTCOMES for plural in kinds}
    counters |= {f"{outcome}_{plural}": summary.get(f"total_{plural}", 0) for plural in kinds}
    counters[f"video_level_{outcome}_items"] = summary.get("video_level_total_items", 0)
    counters["cancelled_segments"] = summary.get("total_segments", 0) if outcome == "cancelled" else 0
    return counters


def planned_segments(run: RunRecord, video: Video | None) -> int:
    """Return how many segments an item would have in a run; 0 if only its content can tell."""
    if video is None:
        return 0
    segmentation = settings_from_dict(run.settings).segmentation
    least, most = segmentation.segment_bounds(video.media_type, video.duration_us)  # type: ignore[arg-type]
    return least if least == most else 0
