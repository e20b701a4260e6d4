"""Answers from call records."""

from __future__ import annotations

from promptreel.providers.base import ModelAnswer, Usage
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.table_rows import LlmCallRow


def recorded_answer(call: LlmCallRow) -> ModelAnswer:
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
