"""What a finished run's manifest says, taken over into the database."""

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
    """Takes over what a run has committed.

    Args:
        manifest: the newest manifest as JSON values.
    """
    counts = manifest["counts"]
    moment = now()
    run.status = manifest["status"]
    run.error_message = manifest["error_message"]
    run.manifest_number = manifest["number"]
    run.completed_at = run.completed_at or moment
    warnings = [*model_warnings(settings_from_dict(run.settings)), *manifest["warnings"]]
    run.summary = {**run.summary, **summary_of_counts(counts, run.summary), "warnings": warnings}
    if run.stop_requested_at is not None:
        run.stop_observed_at = run.stop_observed_at or moment
        run.stop_completed_at = run.stop_completed_at or moment
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
    """The wire's counters from a manifest's counts."""
    summary: dict[str, Any] = {}
    for kind, plural in MEDIA_TYPES:
        for outcome in ITEM_OUTCOMES:
            summary[f"{outcome}_{plural}"] = counts.get(f"media.{kind}.{outcome}", 0)
    _share_unread(summary, counts, before)
    for operation in SEGMENT_OPERATIONS:
        failed = counts.get(f"failures.{operation}", 0)
        succeeded = counts.get(f"{operation}.succeeded", 0)
        summary[f"{operation}_failures"] = failed
        summary[f"{operation}_succeeded"] = None if not failed and not succeeded else not failed
    level_done, level_failed = counts.get("video_results.total", 0), counts.get("failures.synthesis", 0)
    reused = counts.get("results.reused", 0) + counts.get("video_results.reused", 0)
    return {
        **summary,
        "total_segments": counts.get("segments.total", 0),
        "completed_segments": counts.get("segments.succeeded", 0),
        "created_new_segments": counts.get("results.reused", 0) < counts.get("segments.total", 0),
        "video_level_completed_items": level_done,
        "video_level_failed_items": level_failed,
        "reused_results": reused,
        "model_calls": counts.get("calls.total", 0),
        "actual_tokens": {
            name.removeprefix("tokens."): count for name, count in counts.items() if name.startswith("tokens.")
        },
    }


def _share_unread(summary: dict[str, Any], counts: Mapping[str, int], before: Mapping[str, Any]) -> None:
    """Items that were not read have no type in the tables; here it is known from their registration."""
    for outcome in ("failed", "cancelled"):
        left = counts.get(f"media.unread.{outcome}", 0)
        for _, plural in MEDIA_TYPES:
            known = sum(summary[f"{word}_{plural}"] for word in ITEM_OUTCOMES)
            share = min(left, max(0, before.get(f"total_{plural}", 0) - known))
            summary[f"{outcome}_{plural}"] += share
            left -= share
