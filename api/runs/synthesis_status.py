"""The status of an item's synthesis: one answer for the video result, the processing status and the counters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from promptreel.api.db.models import RunRecord
from promptreel.api.runs.run_tables import Row, RunTables
from promptreel.api.runs.statuses import FINAL, MEDIA_TYPES

CANCELLED: Final = "cancelled: the run was stopped before this was done"


@dataclass(frozen=True)
class Synthesis:
    """How the synthesis of an item ended.

    Attributes:
        status: pending, completed, completed_with_failures, failed or cancelled.
        row: the result; None without one.
        failure: the row of its failure; None if it did not fail itself.
        error: why there is no result; None if there is one or it is pending.
    """

    status: str
    row: Row | None = None
    failure: Row | None = None
    error: str | None = None


def synthesis_of(run: RunRecord, tables: RunTables | None, media: Row | None, video_id: str) -> Synthesis:
    """Return how the synthesis of an item ended in a run with a video level.

    Args:
        media: the item's row; None before the first commit.
    """
    if tables is not None and media is not None:
        row = next(tables.rows("video_results", video_id), None)
        if row is not None:
            unfinished = media["failed_segments"] + media["cancelled_segments"]
            return Synthesis("completed_with_failures" if unfinished else "completed", row)
        failures = (part for part in tables.rows("failures", video_id) if part["operation"] == "synthesis")
        if (failure := next(failures, None)) is not None:
            return Synthesis("failed", failure=failure, error=failure["message"])
    if run.status not in FINAL:
        return Synthesis("pending")
    if _is_cancelled(run, media):
        return Synthesis("cancelled", error=CANCELLED)
    return Synthesis("failed", error=_cause(run, media))


def _is_cancelled(run: RunRecord, media: Row | None) -> bool:
    if media is None:
        return run.status == "cancelled"
    return media.get("synthesis") == "cancelled" or (media["segment_count"] == 0 and media["status"] == "cancelled")


def _cause(run: RunRecord, media: Row | None) -> str:
    if media is None:
        return run.error_message or "the run ended without a commit"
    if media["segment_count"] == 0 and media["status"] == "completed":
        return "nothing in the item fits the definition of a segment"
    if media["segment_count"] == 0:
        return "the item could not be read"
    return "no segment has a result to synthesize"


def synthesis_counters(
    counts: Mapping[str, int], unread: Mapping[str, int], before: Mapping[str, Any]
) -> dict[str, int]:
    """Return the counters of syntheses by outcome; they add up to the items that get one.

    Args:
        counts: the counts of the manifest.
        unread: cancelled items whose media was not read, by plural media type.
        before: the counters so far, with the totals.
    """
    total = before.get("video_level_total_items", 0)
    if not total:
        return dict.fromkeys((f"video_level_{word}_items" for word in ("completed", "failed", "cancelled")), 0)
    completed = counts.get("video_results.total", 0)
    timed_unread = sum(unread[plural] for kind, plural in MEDIA_TYPES if kind != "image")
    cancelled = min(total - completed, counts.get("synthesis.cancelled", 0) + timed_unread)
    return {
        "video_level_completed_items": completed,
        "video_level_failed_items": max(0, total - completed - cancelled),
        "video_level_cancelled_items": cancelled,
    }
