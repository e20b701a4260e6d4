"""Parse responses of the Gemini service: text, finish reason and tokens."""

from __future__ import annotations

from typing import Any, Final

from promptreel.providers.base import ModelAnswer, Usage

_BLOCKED: Final = frozenset(
    [
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "ESCALATION",
    ]
)


def read_answer(response: Any) -> ModelAnswer:
    """Convert a response, without its convenience properties, which raise or warn on unusual responses."""
    usage, version = _usage(response.usage_metadata), response.model_version
    feedback = response.prompt_feedback
    if not response.candidates:
        if feedback is not None and feedback.block_reason is not None:
            block_reason = _enum_value(feedback.block_reason)
            failure = ("model_blocked", f"the service blocked the request: {block_reason}")
            return ModelAnswer("", block_reason, usage, failure, model_version=version)
        return ModelAnswer("", None, usage, None, model_version=version)
    candidate = response.candidates[0]
    parts = (candidate.content.parts if candidate.content is not None else None) or []
    text = "".join(part.text for part in parts if part.text and not part.thought)
    # JSON can escape half a surrogate pair, which cannot be encoded in a file.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    reason = _enum_value(candidate.finish_reason) if candidate.finish_reason is not None else None
    return ModelAnswer(text, reason, usage, _finish_failure(reason, candidate.finish_message), model_version=version)


def _finish_failure(reason: str | None, detail: str | None) -> tuple[str, str] | None:
    if reason in (None, "STOP", "FINISH_REASON_UNSPECIFIED"):
        return None
    suffix = f" ({detail})" if detail else ""
    if reason == "MAX_TOKENS":
        return (
            "model_truncated",
            "the answer was cut at the token limit; raise max_output_tokens or request fewer fields",
        )
    if reason in _BLOCKED:
        return "model_blocked", f"the service blocked the answer: {reason}{suffix}"
    return "model_stopped", f"the model stopped with finish reason {reason}{suffix}"


def _usage(metadata: Any) -> Usage:
    if metadata is None:
        return Usage()
    by_modality: dict[str, int] = {}
    details = [*(metadata.prompt_tokens_details or ())]
    for detail in details:
        name = _enum_value(detail.modality) if detail.modality is not None else ""
        by_modality[name] = by_modality.get(name, 0) + (detail.token_count or 0)
    return Usage(
        input_tokens=metadata.prompt_token_count or 0,
        output_tokens=metadata.candidates_token_count or 0,
        thought_tokens=metadata.thoughts_token_count or 0,
        cached_tokens=metadata.cached_content_token_count or 0,
        total_tokens=metadata.total_token_count or 0,
        text_tokens=by_modality.get("TEXT", 0),
        image_tokens=by_modality.get("IMAGE", 0),
        video_tokens=by_modality.get("VIDEO", 0),
        audio_tokens=by_modality.get("AUDIO", 0),
        media_reported=bool(details),
    )


def _enum_value(value: Any) -> str:
    return str(getattr(value, "value", value))
