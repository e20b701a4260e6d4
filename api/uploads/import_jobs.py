"""Import jobs: clients of the public API expect one for each upload and registration. It is always finished."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.orm import Session

from promptreel.api.db.models import Video
from promptreel.api.uploads.media_rows import owned_videos, video_body
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import not_found

_JOB_PREFIX: Final = "job_"


def import_job_body(video: Video) -> dict[str, Any]:
    """Render a video and its finished import job in one body; some clients parse it as the one, some as the other."""
    return {
        **video_body(video),
        "status": "completed",
        "message": "stored",
        "job_id": f"{_JOB_PREFIX}{video.video_id}",
        "phase": "completed",
        "source_kind": video.source_kind,
        "target_index_id": video.index_id,
        "source_prefix": "",
        "file_pattern": "*",
        "recursive": True,
        "progress": {
            "total_files": 1,
            "imported": 1,
            "failed": 0,
            "skipped": 0,
            "bytes_transferred": video.size_bytes,
            "current_file": None,
            "parts_total": 1,
            "parts_completed": 1,
            "parts_failed": 0,
        },
        "outputs": {"items": [], "next_cursor": None, "total": 1},
        "execution": {"status": "not_requested"},
        "video_ids": [video.video_id],
        "failed_files": [],
        "skipped_files": [],
        "thumbnail_data": None,
    }


def import_outputs_body(video: Video) -> dict[str, Any]:
    """Render the outputs of an import job: one media item."""
    item = {
        "file_id": video.video_id,
        "file_name": video.title,
        "source_ordinal": 0,
        "part_index": 0,
        "part_count": 1,
        "source_start_seconds": 0.0,
        "source_end_seconds": (video.duration_us or 0) / 1_000_000,
        "video_id": video.video_id,
        "title": video.title,
        "status": "completed",
    }
    return {"items": [item], "next_cursor": None, "total": 1}


def owned_job(session: Session, caller: Principal, job_id: str) -> Video:
    """Return the media item of an import job.

    Raises:
        ApiError: 404 if the job does not exist, belongs to another account, or its item is deleted.
    """
    found = owned_videos(session, caller, [job_id.removeprefix(_JOB_PREFIX)]) if job_id.startswith(_JOB_PREFIX) else {}
    if not found:
        raise not_found("import_job", job_id)
    return next(iter(found.values()))
