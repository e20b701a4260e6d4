"""The calls of a run's model."""

from __future__ import annotations

from promptreel.schemas.wire.common import WireModel


class LlmCallBody(WireModel):
    """One attempt of one model call.

    Attributes:
        prompt_text: the instruction and the text that were sent; null if not known.
        error_code: why there is no usable answer; null if there is one.
        answer_repair: the repairs that the JSON of the answer needed, joined by commas.
        request_form: how the request was built for a server that supports only some of its parts.
        tier: service tier of the call: "standard", "flex" or "batch"; null in runs of earlier versions.
        cost: in units of `currency`; null if the price of the model was unknown.
    """

    llm_call_id: str
    prompt_run_id: str
    prompt_id: str
    video_id: str | None
    segment_id: str | None
    user_id: str
    model: str
    purpose: str
    status: str
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    thought_tokens: int = 0
    video_seconds: float
    segment_start_time: float | None = None
    segment_end_time: float | None = None
    prompt_text: str | None = None
    response_text: str | None = None
    schema_used: str | None = None
    invoked_at: str
    completed_at: str | None = None
    created_at: str
    duration_ms: int = 0
    attempt: int = 1
    finish_reason: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    model_version: str | None = None
    answer_repair: str | None = None
    request_form: str | None = None
    tier: str | None = None
    cost: float | None = None
    currency: str | None = None
