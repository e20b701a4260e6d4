"""Render results, syntheses, call records and segments of a run as JSON values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

from promptreel.api.db.clock import required_time, wire_text
from promptreel.api.db.models import RunRecord, Video
from promptreel.api.runs.field_evidence import evidence_bodies, evidence_rows_of, requested_fields
from promptreel.api.runs.run_tables import Row, RunTables, readable_tables
from promptreel.api.runs.statuses import FINAL, SEGMENT_OPERATIONS, WIRE_SEGMENT_STATUS
from promptreel.api.runs.synthesis_status import CANCELLED, synthesis_of
from promptreel.api.runs.thumbnails import Frame, Thumbnails, frame_of_item, frames_of_segments
from promptreel.api.runs.unfinished import has_all_segments, not_ready
from promptreel.api.uploads.media_rows import NO_MARKER
from promptreel.api.web.pagination import decode_cursor, encode_cursor, page_body
from promptreel.providers.call_requests import SentRequests
from promptreel.tables.storage import Storage

_NO_MEDIA: Final[dict[str, Any]] = {
    **dict.fromkeys(("segment_uri", "gcs_uri", "thumbnail_uri", "thumbnail_gcs_uri", "gif_uri", "gif_gcs_uri")),
    "thumbnail_available": False,
    "gif_available": False,
}
_NO_MARKERS: Final[dict[str, Any]] = {"marker": NO_MARKER, "extracted_metadata_markers": {}, "metadata_markers": {}}


def results_page(
    thumbnails: Thumbnails, run: RunRecord, video_id: str, video: Video | None, limit: int, cursor: str | None
) -> dict[str, Any]:
    """Return one page of an item's segments in a run, including failed ones, in order of time.

    Segments whose fields are not extracted yet are omitted. The cursor names the manifest of the first page, so all pages
    show the same version of the run.

    Raises:
        ApiError: 409 if the run is in progress and no segment is finished.
    """
    return _page(
        "results", thumbnails, run, video_id, limit, cursor, lambda view: segment_result(run, video, view, thumbnails)
    )


def segments_page(
    thumbnails: Thumbnails, run: RunRecord, video_id: str, limit: int, cursor: str | None
) -> dict[str, Any]:
    """Return one page of an item's segments with their status in a run.

    Raises:
        ApiError: 409 if the run is in progress and the item has no segments yet.
    """
    return _page(
        "segments", thumbnails, run, video_id, limit, cursor, lambda view: segment_body(run.run_id, view, thumbnails)
    )


def _page(
    kind: str,
    thumbnails: Thumbnails,
    run: RunRecord,
    video_id: str,
    limit: int,
    cursor: str | None,
    body_of: Callable[[SegmentView], Row],
) -> dict[str, Any]:
    scope = (kind, run.run_id, video_id)
    position = decode_cursor(cursor, scope, (int, int, str))
    tables = readable_tables(thumbnails.storage, run.run_id, position[0] if position is not None else None)
    segments: list[Row] = []
    has_more, is_complete = False, run.status in FINAL
    if tables is not None:
        after = position[1:] if position is not None else None
        segments, has_more = _segments_after(tables, video_id, after, limit, with_pending=kind == "segments")
        is_complete = has_all_segments(tables, video_id)
    if not segments and position is None and not is_complete and run.status not in FINAL:
        raise not_ready(run, video_id)
    shown = []
    if tables is not None:
        frames = frames_of_segments(tables, video_id, segments)
        shown = [body_of(view) for view in segment_views(tables, video_id, segments, frames)]
    next_cursor = None
    if tables is not None and has_more:
        last = segments[-1]
        next_cursor = encode_cursor(scope, [tables.manifest.number, last["start_us"], last["segment_id"]])
    return {**page_body(shown, limit, next_cursor), "run_status": run.status, "is_complete": is_complete}


def _segments_after(
    tables: RunTables, video_id: str, position: Sequence[Any] | None, limit: int, *, with_pending: bool
) -> tuple[list[Row], bool]:
    first_us = position[0] if position is not None else None
    rows: Iterable[Row] = tables.rows("segments", video_id, first_us)
    if not with_pending:
        rows = (row for row in rows if row["status"] != "pending")
    if position is not None:
        rows = (row for row in rows if (row["start_us"], row["segment_id"]) > (position[0], position[1]))
    found = list(islice(rows, limit + 1))
    return found[:limit], len(found) > limit


@dataclass(frozen=True)
class SegmentView:
    """One segment with its outcome in a run.

    Attributes:
        failures: failures by operation.
        evidence: its rows of the table `field_evidence`.
        frame: the frame of its thumbnail.
    """

    segment: Row
    result: Row | None
    transcript: Row | None
    failures: Mapping[str, Row]
    evidence: Sequence[Row] = ()
    frame: Frame | None = None


def segment_views(
    tables: RunTables, video_id: str, segments: Sequence[Row], frames: Mapping[str, Frame] = MappingProxyType({})
) -> list[SegmentView]:
    """Return segments of one item with their results, transcripts, failures, and the given frames by segment id."""
    if not segments:
        return []
    span = (segments[0]["start_us"], segments[-1]["start_us"])
    results = {row["segment_id"]: row for row in tables.rows("results", video_id, *span)}
    transcripts = {row["segment_id"]: row for row in tables.rows("transcripts", video_id, *span)}
    evidence = evidence_rows_of(tables, video_id, span)
    failures: dict[str, dict[str, Row]] = {}
    for row in tables.rows("failures", video_id, *span):
        failures.setdefault(row["segment_id"], {})[row["operation"]] = row
    return [
        SegmentView(
            row,
            results.get(row["segment_id"]),
            transcripts.get(row["segment_id"]),
            failures.get(row["segment_id"], {}),
            evidence.get(row["segment_id"], ()),
            frames.get(row["segment_id"]),
        )
        for row in segments
    ]


def segment_result(run: RunRecord, video: Video | None, view: SegmentView, thumbnails: Thumbnails | None = None) -> Row:
    """Render a segment as the SegmentRunResult of the API. A failed segment has no metadata.

    Args:
        thumbnails: None omits the link to a thumbnail, e.g. because it would expire.
    """
    segment, result = view.segment, view.result
    return {
        "result_type": "segment",
        "result_id": f"segment:{segment['segment_id']}:{run.run_id}",
        "segment_id": segment["segment_id"],
        "video_id": segment["video_id"],
        **_head(run, video),
        "executed_at": wire_text(result["executed_at"]) if result is not None else required_time(run.created_at),
        "start_time": segment["start_time"],
        "end_time": segment["end_time"],
        **_NO_MEDIA,
        **_thumbnail(thumbnails, run.run_id, segment["video_id"], view.frame),
        "metadata": json.loads(result["metadata"]) if result is not None else {},
        "metadata_text": result["metadata_text"] if result is not None else "",
        "processing_warning": _warning(result, segment),
        "schema_used": json.dumps(run.prompt["json_schema"]),
        **operation_flags(view),
        "field_extraction_succeeded": segment["field_extraction"] == "succeeded",
        "transcript": view.transcript["text"] if view.transcript is not None else None,
        "evidence": evidence_bodies(run, view.evidence),
        **_NO_MARKERS,
    }


def operation_flags(view: SegmentView) -> dict[str, Any]:
    """Return for each operation whether it succeeded (None if not requested, not applicable or cancelled), and its error.

    The error of a cancelled operation says that it will never run, that of an unavailable one names the missing model."""
    flags: dict[str, Any] = {}
    for operation in SEGMENT_OPERATIONS:
        outcome = view.segment[operation]
        failure = view.failures.get(operation)
        flags[f"{operation}_succeeded"] = None if outcome in (None, "cancelled") else outcome == "succeeded"
        error = CANCELLED if outcome == "cancelled" else None
        if outcome == "unavailable":
            error = next((text for text in view.segment["warnings"] if text.startswith(f"no {operation}: ")), None)
        flags[f"{operation}_error"] = failure["message"] if failure is not None else error
    return flags


def _warning(result: Row | None, segment: Row | None) -> str | None:
    """Join the warning of a result and those of a segment: the requested operations that did not run."""
    own = result["warning"] if result is not None else None
    found = [own, *(segment.get("warnings") or () if segment is not None else ())]
    return "; ".join(text for text in found if text) or None


def segment_body(run_id: str, view: SegmentView, thumbnails: Thumbnails) -> Row:
    """Render a segment with its status in a run as the Segment of the API."""
    segment, result = view.segment, view.result
    failure = next(iter(view.failures.values()), None)
    return {
        "segment_id": segment["segment_id"],
        "video_id": segment["video_id"],
        "start_time": segment["start_time"],
        "end_time": segment["end_time"],
        **{name: value for name, value in _NO_MEDIA.items() if name != "segment_uri"},
        **_thumbnail(thumbnails, run_id, segment["video_id"], view.frame),
        "processed": segment["status"] == "succeeded",
        "processing_failed": segment["status"] == "failed",
        "segment_status": WIRE_SEGMENT_STATUS[segment["status"]],
        "failure_stage": failure["operation"] if failure is not None else None,
        "failure_message": failure["message"] if failure is not None else None,
        "attempt_id": None,
        "status_source": "run",
        "metadata": json.loads(result["metadata"]) if result is not None else None,
        "metadata_text": result["metadata_text"] if result is not None else "",
        "created_at": None,
        "processed_at": wire_text(result["executed_at"]) if result is not None else None,
        "error_message": failure["message"] if failure is not None else None,
        "processing_warning": _warning(result, segment),
        "thumbnail_data": None,
        "gif_data": None,
        "from_run_id": run_id,
        "marker": NO_MARKER,
        "metadata_markers": {},
        **operation_flags(view),
    }


def all_segments(thumbnails: Thumbnails, run: RunRecord, video_id: str) -> list[Row]:
    """Return all segments of an item with their status in a run."""
    tables = readable_tables(thumbnails.storage, run.run_id)
    if tables is None:
        return []
    segments = list(tables.rows("segments", video_id))
    frames = frames_of_segments(tables, video_id, segments)
    return [segment_body(run.run_id, view, thumbnails) for view in segment_views(tables, video_id, segments, frames)]


def video_result(
    tables: RunTables | None,
    run: RunRecord,
    video_id: str,
    video: Video | None,
    thumbnails: Thumbnails | None = None,
) -> Row | None:
    """Render the synthesis of an item, or why it has none. None if it gets none or the run has not reached it yet.

    Args:
        thumbnails: see `segment_result`.
    """
    level = run.prompt.get("video_level")
    media = next(tables.rows("media", video_id), None) if tables is not None else None
    kind = media["media_type"] if media is not None else None
    if level is None or "image" in (kind, video.media_type if video is not None else None):
        return None
    synthesis = synthesis_of(run, tables, media, video_id)
    row, failure = synthesis.row, synthesis.failure
    if synthesis.status == "pending":
        return None
    first = next(tables.rows("segments", video_id), None) if tables is not None else None
    frame, preview = None, None
    if tables is not None and first is not None and thumbnails is not None:
        frame = frame_of_item(tables, video_id)
        preview = frames_of_segments(tables, video_id, [first]).get(first["segment_id"])
    return {
        "result_type": "video",
        "result_id": f"video:{video_id}:{run.run_id}",
        "video_id": video_id,
        **_head(run, video),
        "executed_at": wire_text(row["executed_at"]) if row is not None else required_time(run.created_at),
        "status": synthesis.status,
        "metadata": json.loads(row["metadata"]) if row is not None else {},
        "metadata_text": row["metadata_text"] if row is not None else "",
        "raw_llm_response": failure["answer"] if failure is not None else None,
        "processing_warning": _warning(row, first),
        "schema_used": json.dumps(level["json_schema"]),
        "successful_segment_count": media["succeeded_segments"] if media is not None else 0,
        "failed_segment_count": media["failed_segments"] if media is not None else 0,
        "omitted_segment_ids": list(row["omitted_segment_ids"]) if row is not None else [],
        "template_fields": list(row["template_fields"]) if row is not None else [],
        "source_fingerprint": row["source_fingerprint"] if row is not None else None,
        "rendered_prompt_char_count": row["rendered_prompt_chars"] if row is not None else 0,
        "llm_attempted": bool(row["llm_call_ids"]) if row is not None else bool(failure and failure["attempts"]),
        "attempt_id": None,
        "error_message": synthesis.error,
        "started_at": None,
        "completed_at": wire_text(row["executed_at"]) if row is not None else None,
        **_NO_MEDIA,
        **_thumbnail(thumbnails, run.run_id, video_id, frame),
        "preview_segment_id": first["segment_id"] if first is not None else None,
        "preview_start_time": first["start_time"] if first is not None else None,
        "preview_end_time": first["end_time"] if first is not None else None,
        "preview_segment_uri": None,
        "preview_thumbnail_uri": _thumbnail(thumbnails, run.run_id, video_id, preview)["thumbnail_uri"],
        "preview_gif_uri": None,
        "embedding_status": None,
        "embedding_error": None,
        **_NO_MARKERS,
    }


def llm_calls(storage: Storage, run: RunRecord) -> list[Row]:
    """Render all call records of a run, in order of time."""
    tables = readable_tables(storage, run.run_id)
    if tables is None:
        return []
    spans = {row["segment_id"]: (row["start_time"], row["end_time"]) for row in tables.all_rows("segments")}
    sent = SentRequests(run.prompt, run.settings["segmentation"].get("segments_by"), requested_fields(run))
    return [
        _call_body(run, row, spans.get(row["segment_id"], (None, None)), sent) for row in tables.all_rows("llm_calls")
    ]


def _thumbnail(thumbnails: Thumbnails | None, run_id: str, video_id: str, frame: Frame | None) -> dict[str, Any]:
    if thumbnails is None:
        return {"thumbnail_uri": None, "thumbnail_available": False}
    return thumbnails.fields(run_id, video_id, frame)


def _head(run: RunRecord, video: Video | None) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "prompt_id": run.prompt_id,
        "prompt_run_id": run.run_id,
        "video_name": video.title if video is not None else None,
        "source_index_id": video.index_id if video is not None else run.index_id,
    }


def _call_body(run: RunRecord, row: Row, span: tuple[float | None, float | None], sent: SentRequests) -> Row:
    schema = sent.json_schema(row["purpose"], row["request"])
    return {
        "llm_call_id": row["llm_call_id"],
        "prompt_run_id": run.run_id,
        "prompt_id": run.prompt_id,
        "video_id": row["video_id"],
        "segment_id": row["segment_id"],
        "user_id": run.account_id,
        "model": row["model"],
        "purpose": row["purpose"],
        "status": row["status"],
        "input_tokens": row["input_tokens"],
        "output_tokens": row["output_tokens"],
        "total_tokens": row["total_tokens"],
        "cached_tokens": row["cached_tokens"],
        "thought_tokens": row["thought_tokens"],
        "video_seconds": row["video_seconds"],
        "segment_start_time": span[0],
        "segment_end_time": span[1],
        "prompt_text": sent.prompt_text(row["purpose"], row["request"]),
        "response_text": row["response_text"],
        "schema_used": json.dumps(schema) if schema is not None else None,
        "invoked_at": wire_text(row["invoked_at"]),
        "completed_at": wire_text(row["completed_at"]),
        "created_at": wire_text(row["invoked_at"]),
        "duration_ms": row["duration_ms"],
        "attempt": row["attempt"],
        "finish_reason": row["finish_reason"],
        "error_code": row["code"],
        "error_message": row["message"],
        "model_version": row.get("model_version"),
        "answer_repair": row.get("answer_repair"),
        "request_form": row.get("request_form"),
        "tier": row.get("tier"),
        "cost": row.get("cost"),
        "currency": row.get("currency"),
    }
