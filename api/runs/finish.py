"""Copy the outcome of a finished run from its manifest into the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from promptreel.api.db.clock import now
from promptreel.api.db.events import record_event
from promptreel.api.db.models import RunRecord
from promptreel.api.runs.plan import model_warnings
from promptreel.api.runs.statuses import ITEM_OUTCOMES, MEDIA_TYPES, SEGMENT_OPERATIONS
from promptreel.schemas.settings import settings_from_dict


def finish_run(session: Session, run: RunRecord, manifest: Mapping[str, Any]) -> None:
    """Store the status and counters of a run, and record its final event.

    Args:
        manifest: the newest manifest as JSON values.
    """
    counts = manifest["counts"]
    finished_at = now()
    run.status = manifest["status"]
    run.error_message = manifest["error_message"]
    run.manifest_number = manifest["number"]
    run.completed_at = run.completed_at or finished_at
    warnings = [*model_warnings(settings_from_dict(run.settings)), *manifest["warnings"]]
    run.summary = {**run.summary, **summary_of_counts(counts, run.summary), "warnings": warnings}
    if run.stop_requested_at is not None:
        run.stop_observed_at = run.stop_observed_at or finished_at
        run.stop_completed_at = run.stop_completed_at or finished_at
    event = "partial_completed" if run.status == "completed_with_failures" else run.status
    record_event(
        session,
        run.account_id,
        f"prompt_run.{event}",
        run_id=run.run_id,
        index_id=run.index_id,
        payload={"status": run.status, "error_message": run.error_message},
    )


def summary_of_counts(counts: Mapping[str, int], before: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the counts of a manifest to the counters of the API.

    Args:
        before: the counters so far, with the totals by media type.
    """
    summary: dict[str, Any] = {**item_counters(counts, before)}
    for operation in SEGMENT_OPERATIONS:
        failed = counts.get(f"failures.{operation}", 0)
        succeeded = counts.get(f"{operation}.succeeded", 0)
        summary[f"{operation}_failures"] = failed
        summary[f"{operation}_succeeded"] = None if not failed and not succeeded else not failed
    reused = counts.get("results.reused", 0) + counts.get("video_results.reused", 0)
    return {
        **summary,
        "total_segments": counts.get("segments.total", 0),
        "completed_segments": counts.get("segments.succeeded", 0),
        "created_new_segments": counts.get("results.reused", 0) < counts.get("segments.total", 0),
        "video_level_completed_items": counts.get("video_results.total", 0),
        "video_level_failed_items": counts.get("failures.synthesis", 0),
        "reused_results": reused,
        "model_calls": counts.get("calls.total", 0),
        "actual_tokens": {
            name.removeprefix("tokens."): count for name, count in counts.items() if name.startswith("tokens.")
        },
    }


def item_counters(counts: Mapping[str, int], before: Mapping[str, Any]) -> dict[str, int]:
    """Return the counters of ended items by outcome and media type.

    Args:
        before: the counters so far, with the totals by media type.
    """
    counters = {
        f"{outcome}_{plural}": counts.get(f"media.{kind}.{outcome}", 0)
        for kind, plural in MEDIA_TYPES
        for outcome in ITEM_OUTCOMES
    }
    _add_unread(counters, counts, before)
    return counters


def _add_unread(summary: dict[str, int], counts: Mapping[str, int], before: Mapping[str, Any]) -> None:
    """Add unread items to the counters. The tables lack their type, so it is inferred from the registered totals."""
    for outcome in ("failed", "cancelled"):
        remaining = counts.get(f"media.unread.{outcome}", 0)
        for _, plural in MEDIA_TYPES:
            known = sum(summary[f"{word}_{plural}"] for word in ITEM_OUTCOMES)
            share = min(remaining, max(0, before.get(f"total_{plural}", 0) - known))
            summary[f"{outcome}_{plural}"] += share
            remaining -= share
