"""Request and response bodies that several tests use."""

KEY = "sk_live_" + "0123456789ab" * 4
PROMPT_TEXT = "Measure the length of the segment."
SCHEMA = {"type": "object", "properties": {"duration_seconds": {"type": "number"}}, "required": ["duration_seconds"]}
SYNTHESIS = {"instructions_text": "Sum up.", "included_segment_fields": ["duration_seconds"], "json_schema": SCHEMA}
RUN = {
    "run_id": "run_1",
    "prompt_id": "prompt_1",
    "prompt_name": "p",
    "executed_at": "2026-04-20T10:00:00Z",
    "executed_by": "user_1",
    "status": "processing",
    "run_context": {"type": "playground"},
}

VIDEO = {
    "title": "a",
    "video_uri": "media://a",
    "status": "processed",
    "created_at": "2026-04-20T10:00:00Z",
    "updated_at": "2026-04-20T10:00:00Z",
    "media_type": "video",
}

HIT = {
    **dict.fromkeys(("video_id", "run_id", "source_run_id", "prompt_run_id", "prompt_id"), "x"),
    **dict.fromkeys(("text_content", "content_preview", "metadata_text"), "t"),
    "result_type": "segment",
    "result_id": "segment:s:r",
    "segment_id": "s",
    "start_time": 0.0,
    "end_time": 1.0,
    "metadata": {},
    "extracted_metadata": {},
    "matched_field_paths": [],
}

RETRY = {"run_id": "run_1", "retry_id": "retry_1", "video_id": "v", "segment_id": "s", "created_at": "2026-04-20"}


def error_response(status, code="some_error", headers=None, **details):
    body = {"error": {"code": code, "message": "It went wrong.", "details": details or None, "request_id": "req_7"}}
    return (status, body, headers or {})


def page_body(items, cursor=None):
    return {"data": items, "pagination": {"limit": 2, "has_more": cursor is not None, "next_cursor": cursor}}


def run_body(status="processing", **changes):
    return {**RUN, "status": status, **changes}
