"""A run with one item, for tests that write its tables themselves."""

import json
from datetime import UTC, datetime

from promptreel.schemas.settings import RunSettings
from promptreel.schemas.table_rows import LlmCallRow
from promptreel.tables.manifest import commit_manifest
from promptreel.tables.parts import shard_writer
from promptreel.tables.request import RunRequest, TargetItem, write_request
from promptreel.tables.table_schemas import table_schemas
from tests.prompts import NESTED

RUN = "run_a"
FIELDS = {
    "summary": "s",
    "scene": {"location": "dock", "people_count": 2, "bright": True},
    "products": [
        {"name": "a", "price": 1.5, "tags": ["x", "y"], "first_seen": None},
        {"name": "b", "price": None, "tags": None, "first_seen": 2.0},
    ],
    "keywords": ["k"],
    "start_time": 3.0,
    "extra": '{"a":1}',
}


def create_run(storage, run_id=RUN):
    """Create the run folder; return the request."""
    request = RunRequest(run_id, NESTED, RunSettings(), ("x",), datetime.now(UTC).isoformat())
    write_request(storage, request, [TargetItem("/x/a.mp4", "a.mp4")])
    return request


def result_row(video, number, metadata, fields):
    return {
        "run_id": RUN, "video_id": video, "segment_id": f"seg_{video}_{number}", "prompt_id": "p", "model": "m",
        "media_type": "video", "start_us": number * 10, "end_us": number * 10 + 10, "start_time": 0.0, "end_time": 1.0,
        "metadata": json.dumps(metadata), "metadata_text": "t", "warning": None, "reused": False, "operation_key": "k",
        "llm_call_ids": [], "executed_at": "now", "fields": fields,
    }  # fmt: skip


def commit_results(storage, rows, attempt=1, token="t1"):
    """Commit a manifest with one part of results."""
    with shard_writer(storage, RUN, 0, table_schemas(NESTED)) as writer:
        for row in rows:
            writer.write("results", row)
        parts = writer.commit()
    return commit_manifest(storage, RUN, attempt=attempt, token=token, status="completed", counts={}, parts=parts)


def call_row(number, **changes):
    values = dict.fromkeys(LlmCallRow.__dataclass_fields__, 0)
    text = dict.fromkeys(
        ("run_id", "video_id", "operation_key", "model", "purpose", "status", "invoked_at", "request"), "x"
    )
    values |= dict.fromkeys(("answer_repair", "request_form", "instruction", "json_schema", "tier", "cost", "currency"))
    values |= text | {"llm_call_id": f"llm_{number}", "segment_id": None, "status": "interrupted", "total_tokens": 5}
    return LlmCallRow(**{**values, **changes})
