"""Call records: what a policy stores about each call when it starts and when it ends, and the answer in a record."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from promptreel.providers.base import ModelAnswer, ModelRequest, Provider, Usage
from promptreel.providers.call_requests import describe_request
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.ids import call_id_of
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.table_rows import LlmCallRow
from promptreel.schemas.tiers import Tier

if TYPE_CHECKING:
    from promptreel.providers.call_policy import CallSubject


def started_call(
    provider: Provider,
    request: ModelRequest,
    subject: CallSubject,
    attempt: int,
    tier: Tier,
    invoked_at: str | None = None,
) -> LlmCallRow:
    """Return the record of a call before it is sent.

    Args:
        attempt: number of the attempt at the operation, from 1.
        invoked_at: ISO 8601 in UTC; None means now.
    """
    invoked_at = invoked_at or timestamp()
    media = request.media
    return LlmCallRow(
        llm_call_id=call_id_of(subject.operation_key, subject.run_id, invoked_at, attempt),
        run_id=subject.run_id,
        video_id=subject.video_id,
        segment_id=subject.segment_id,
        operation_key=subject.operation_key,
        model=provider.name,
        purpose=request.purpose,
        status="interrupted",
        attempt=attempt,
        code=None,
        message=None,
        finish_reason=None,
        input_tokens=0,
        output_tokens=0,
        thought_tokens=0,
        cached_tokens=0,
        total_tokens=0,
        text_tokens=0,
        image_tokens=0,
        video_tokens=0,
        audio_tokens=0,
        video_seconds=seconds_from_us(media.span.duration_us) if media is not None else 0.0,
        invoked_at=invoked_at,
        completed_at=None,
        duration_ms=0,
        request=describe_request(request),
        response_text=None,
        max_output_tokens=provider.output_budget(request),
        tier=tier,
    )


def ended_call(
    started: LlmCallRow,
    answer: ModelAnswer | None,
    failure: tuple[str, str] | None,
    repair: str | None,
    duration_ms: int,
) -> LlmCallRow:
    """Return the record of a call that ended with an answer, with a failure (code, message), or with both."""
    usage = answer.usage if answer is not None else Usage()
    return replace(
        started,
        status="success" if failure is None else "error",
        code=failure[0] if failure else None,
        message=failure[1] if failure else None,
        finish_reason=answer.finish_reason if answer is not None else None,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        thought_tokens=usage.thought_tokens,
        cached_tokens=usage.cached_tokens,
        total_tokens=usage.total_tokens,
        text_tokens=usage.text_tokens,
        image_tokens=usage.image_tokens,
        video_tokens=usage.video_tokens,
        audio_tokens=usage.audio_tokens,
        completed_at=timestamp(),
        duration_ms=duration_ms,
        response_text=answer.text if answer is not None else None,
        model_version=answer.model_version if answer is not None else None,
        answer_repair=repair,
        request_form=answer.request_form if answer is not None else None,
    )


def answer_of(call: LlmCallRow) -> ModelAnswer:
    """Return a recorded answer as the provider returned it."""
    usage = Usage(
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        thought_tokens=call.thought_tokens,
        cached_tokens=call.cached_tokens,
        total_tokens=call.total_tokens,
        text_tokens=call.text_tokens,
        image_tokens=call.image_tokens,
        video_tokens=call.video_tokens,
        audio_tokens=call.audio_tokens,
        media_reported=bool(call.text_tokens + call.image_tokens + call.video_tokens + call.audio_tokens),
    )
    failure = None if call.code is None else (call.code, call.message or "")
    if failure is not None and FAILURE_CODES[failure[0]].found_by_check:
        failure = None  # the caller checks the answer again, as one that an earlier version recorded without a check
    return ModelAnswer(
        call.response_text or "",
        call.finish_reason,
        usage,
        failure,
        model_version=call.model_version,
        max_output_tokens=call.max_output_tokens,
    )


def timestamp() -> str:
    """Return the time as ISO 8601 in UTC, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
