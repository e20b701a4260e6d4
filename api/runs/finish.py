"""Copy the outcome of a finished run from its manifest into the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from promptreel.api.db.clock import now
from promptreel.api.db.events import record_event
from promptreel.api.db.models import RunRecord
from promptreel.api.runs.plan import model_warnings
from promptreel.api.runs.statuses import ITEM_OUTCOMES, MEDIA_TYPES, REQUEST_WARNINGS, SEGMENT_OPERATIONS
from promptreel.api.runs.synthesis_status import synthesis_counters
from promptreel.schemas.money import money_of
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
    of_request = run.summary.get(REQUEST_WARNINGS, ())
    warnings = [*of_request, *model_warnings(settings_from_dict(run.settings)), *manifest["warnings"]]
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
    items, unread = _item_counters(counts, before)
    summary: dict[str, Any] = {**items}
    for operation in SEGMENT_OPERATIONS:
        failed = counts.get(f"failures.{operation}", 0)
        succeeded, cancelled = counts.get(f"{operation}.succeeded", 0), counts.get(f"{operation}.cancelled", 0)
        unavailable = counts.get(f"{operation}.unavailable", 0)
        summary[f"{operation}_failures"] = failed
        summary[f"{operation}_succeeded"] = (
            False if failed or unavailable else True if succeeded and not cancelled else None
        )
    reused = counts.get("results.reused", 0) + counts.get("video_results.reused", 0)
    total = counts.get("segments.total", 0)
    if counts.get("media.cancelled"):  # the planned segments of items that were not read still count
        total = max(total, before.get("total_segments", 0))
    return {
        **summary,
        **synthesis_counters(counts, unread, before),
        "total_segments": total,
        "cancelled_segments": counts.get("segments.cancelled", 0) + total - counts.get("segments.total", 0),
        "completed_segments": counts.get("segments.succeeded", 0),
        "created_new_segments": counts.get("results.reused", 0) < counts.get("segments.total", 0),
        "reused_results": reused,
        "model_calls": counts.get("calls.total", 0),
        "actual_cost": money_of(counts).to_dict(),
        "actual_tokens": {
            name.removeprefix("tokens."): count for name, count in counts.items() if name.startswith("tokens.")
        },
    }


def item_counters(counts: Mapping[str, int], before: Mapping[str, Any]) -> dict[str, int]:
    """Return the counters of ended items by outcome and media type.

    Args:
        before: the counters so far, with the totals by media type.
    """
    return _item_counters(counts, before)[0]


def _item_counters(counts: Mapping[str, int], before: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the counters of `item_counters`, and the cancelled items that were not read by plural media type.

    The tables lack the type of unread items, so it is inferred from the registered totals.
    """
    counters = {
        f"{outcome}_{plural}": counts.get(f"media.{kind}.{outcome}", 0)
        for kind, plural in MEDIA_TYPES
        for outcome in ITEM_OUTCOMES
    }
    shares: dict[str, int] = {}
    for outcome in ("failed", "cancelled"):
        remaining = counts.get(f"media.unread.{outcome}", 0)
        for _, plural in MEDIA_TYPES:
            known = sum(counters[f"{word}_{plural}"] for word in ITEM_OUTCOMES)
            share = min(remaining, max(0, before.get(f"total_{plural}", 0) - known))
            counters[f"{outcome}_{plural}"] += share
            remaining -= share
            shares[plural] = share  # finally, of the last outcome
    return counters, shares
