"""Requests to retry failures. They reject unknown fields: without a filter, more failures would be retried and paid."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.spelling import nearest
from promptreel.schemas.wire.common import ClosedModel
from promptreel.schemas.wire.run_targets import Id

# Operations that a retry of failures can select; "processing" selects every failure of an item itself.
RetryableOperation = Literal[
    "field_extraction", "transcription", "image_embedding", "processing", "synthesis", "text_embedding"
]


def _known_code(code: str) -> str:
    if code not in FAILURE_CODES:
        meant = nearest(code, FAILURE_CODES)
        fix = f"did you mean {meant!r}?" if meant else "see GET /prompt-runs/{run_id}/failed-segments"
        raise ValueError(f"{code!r} is not a failure code; {fix}")
    return code


KnownCode = Annotated[str, AfterValidator(_known_code)]


class RetrySegment(ClosedModel):
    """The retry of one segment has no options: it retries all failed operations of the segment."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})

    elsewhere = dict.fromkeys(
        ("operations", "codes", "video_ids"), "POST /prompt-runs/{run_id}/retry-failures selects failures"
    )


class RetryFailures(ClosedModel):
    """The failures of a run to retry; without any filter, all retryable failures."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"operations": ["field_extraction"]}]})

    operations: list[RetryableOperation] | None = Field(default=None, min_length=1)
    codes: list[KnownCode] | None = Field(default=None, min_length=1)
    video_ids: list[Id] | None = Field(default=None, min_length=1, max_length=10_000)
