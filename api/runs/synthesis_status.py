"""The status of an item's synthesis in a run, the same in `video-result` and `processing_status`."""

from __future__ import annotations

from promptreel.api.runs.run_tables import Row, RunTables


def synthesis_rows(tables: RunTables, video_id: str) -> tuple[Row | None, Row | None]:
    """Return the result of an item's synthesis and its failure; each None if it does not exist."""
    row = next(tables.rows("video_results", video_id), None)
    failures = (part for part in tables.rows("failures", video_id) if part["operation"] == "synthesis")
    return row, next(failures, None)


def synthesis_status(media: Row, row: Row | None, failure: Row | None) -> str:
    """Return the status of an item's synthesis.

    An ended item without result and failure had no segment to synthesize, or was cancelled before.

    Args:
        media: the item's row of the media table.
    """
    if row is not None:
        return "completed_with_failures" if media["failed_segments"] else "completed"
    if failure is not None:
        return "failed"
    if media["status"] == "processing":
        return "pending"
    return "cancelled" if media["status"] == "cancelled" else "failed"
