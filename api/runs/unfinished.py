"""What a reader learns about the segments of a run in progress."""

from __future__ import annotations

from typing import Final

from promptreel.api.db.models import RunRecord
from promptreel.api.runs.run_tables import RunTables
from promptreel.api.runs.statuses import UNFINISHED
from promptreel.api.web.errors import ApiError

_RETRY_AFTER_S: Final = 5


def has_all_segments(tables: RunTables, video_id: str) -> bool:
    """Whether all segments of an item are finished. False if the run is in progress and may still change one."""
    if not tables.manifest.is_interim:
        return True
    media = next(tables.rows("media", video_id), None)
    if media is None:
        return False
    return media["status"] != "processing" or all(
        row["status"] not in UNFINISHED for row in tables.rows("segments", video_id)
    )


def not_ready(run: RunRecord, video_id: str) -> ApiError:
    """Return a 409: a client that reads too early must not take an empty page for an item without segments."""
    message = f"Run {run.run_id} is {run.status}; no segment of {video_id} is finished yet. Try again later."
    details = {"run_id": run.run_id, "video_id": video_id, "status": run.status}
    return ApiError(409, "results_not_ready", message, details, _RETRY_AFTER_S)
