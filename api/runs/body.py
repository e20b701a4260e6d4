"""The JSON body of a run."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Row

from promptreel.api.db.clock import required_time, wire_time
from promptreel.api.db.models import RunRecord
from promptreel.api.runs.costs import NO_COST
from promptreel.api.runs.service_status import shown_service_state
from promptreel.api.runs.status_text import status_text
from promptreel.api.runs.statuses import ITEM_OUTCOMES, MEDIA_TYPES, REQUEST_WARNINGS, SEGMENT_OPERATIONS
from promptreel.api.uploads.media_rows import NO_MARKER


def run_body(run: RunRecord | Row[Any]) -> dict[str, Any]:
    """Render a run as JSON values, without its prompt."""
    segmentation = run.settings["segmentation"]
    service_state = shown_service_state(run.summary, run.status)
    return {
        **_INITIAL_COUNTERS,
        **{name: value for name, value in run.summary.items() if name != REQUEST_WARNINGS},
        "run_id": run.run_id,
        "prompt_id": run.prompt_id,
        "prompt_name": run.prompt_name,
        "prompt_type": "custom",
        "executed_at": required_time(run.created_at),
        "executed_by": run.account_id,
        "status": run.status,
        "status_text": status_text(run),
        "service_state": service_state,
        "warnings": [*run.summary.get("warnings", []), *([] if service_state is None else [service_state])],
        "run_context": run.target,
        "error_message": run.error_message,
        "video_segmentation_type": segmentation["video_strategy"],
        "audio_segmentation_type": segmentation["audio_strategy"],
        "image_segmentation_type": "image",
        "video_segment_duration": segmentation["video_duration_s"],
        "audio_segment_duration": segmentation["audio_duration_s"],
        "segment_options": {
            "hop": segmentation.get("hop_s"),
            "start_time": segmentation.get("start_s", 0.0),
            "end_time": segmentation.get("end_s"),
            "definition": segmentation.get("segments_by"),
            "dedupe": run.settings.get("dedupe_segments", False),
        },
        "evidence": run.settings.get("evidence"),
        "processing_model": run.settings["model"]["model"],
        "enable_transcription": run.settings["transcription"]["enabled"],
        "enable_image_embedding": run.settings["image_embedding"]["enabled"],
        "billing_estimated_mt": 0.0,
        "billing_actual_mt": 0.0,
        "billing_status": None,
        "billing_error": None,
        "stop_state": {
            "requested_at": wire_time(run.stop_requested_at),
            "requested_by": run.stop_requested_by,
            "mode": "graceful" if run.stop_requested_at is not None else None,
            "observed_at": wire_time(run.stop_observed_at),
            "completed_at": wire_time(run.stop_completed_at),
        },
        "marker": NO_MARKER,
        "started_at": wire_time(run.started_at),
        "completed_at": wire_time(run.completed_at),
        "name": run.name,
        "tags": run.tags or {},
        "prompt_version": run.prompt_version,
    }


_INITIAL_COUNTERS: Final[dict[str, Any]] = {
    **{f"{word}_{plural}": 0 for word in ("total", *ITEM_OUTCOMES) for _, plural in MEDIA_TYPES},
    **{f"{operation}_failures": 0 for operation in SEGMENT_OPERATIONS},
    **{f"{operation}_succeeded": None for operation in SEGMENT_OPERATIONS},
    "total_segments": 0,
    "completed_segments": 0,
    "cancelled_segments": 0,
    "created_new_segments": False,
    "total_video_seconds": 0.0,
    "video_level_enabled": False,
    **{f"video_level_{word}_items": 0 for word in ("total", "completed", "failed", "partial", "cancelled")},
    "warnings": [],
    "reused_results": 0,
    "model_calls": 0,
    "estimated_input_tokens": None,
    "estimated_cost": None,
    "actual_cost": NO_COST,
    "actual_tokens": {},
}
