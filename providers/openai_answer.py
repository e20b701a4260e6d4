"""Parse the responses and errors of OpenAI-compatible servers. They are often incomplete, so nothing is required."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from promptreel.providers.base import ModelAnswer, Usage
from promptreel.providers.http_errors import failure_of_status, retry_after_of
from promptreel.schemas.errors import ModelError

_MESSAGE_CHARS: Final = 500
_QUOTA_CODES: Final = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_credits")


def read_answer(response: Any, model: str) -> ModelAnswer:
    """Convert a chat completion of the model.

    Raises:
        ModelError: the response is not a chat completion, or contains an error instead of one.
    """
    choices = getattr(response, "choices", None)
    if not isinstance(choices, list):
        raise _error_in(response, model)
    usage, version = _usage(getattr(response, "usage", None)), _string(getattr(response, "model", None))
    if not choices:
        return ModelAnswer("", None, usage, None, model_version=version)
    choice = choices[0]
    message = getattr(choice, "message", None)
    text = _text_of(getattr(message, "content", None))
    reason = _string(getattr(choice, "finish_reason", None))
    refusal = _string(getattr(message, "refusal", None))
    return ModelAnswer(text, reason, usage, _failure(reason, refusal), model_version=version)


def _error_in(response: Any, model: str) -> ModelError:
    """Return the error of a response that is not a completion: some services send status 200 with an error in the body."""
    inner = getattr(response, "error", None)
    detail = str(inner if inner is not None else response)[:_MESSAGE_CHARS]
    status = inner.get("code") if isinstance(inner, Mapping) else None
    is_status = isinstance(status, int) and status >= HTTPStatus.BAD_REQUEST
    return _error_of_status(status if is_status else None, f"the response is not a chat completion: {detail}", model)


def _text_of(content: Any) -> str:
    """Return a message's text, which is a string or a list of parts."""
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    # JSON can escape half a surrogate pair, which cannot be encoded in a file.
    return (_string(content) or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _string(value: Any) -> str | None:
    """Return a text; None for anything else, because the client does not check the types of a response."""
    return value if isinstance(value, str) else None


def _failure(reason: str | None, refusal: str | None) -> tuple[str, str] | None:
    if refusal:
        return "model_blocked", f"the model refused: {refusal[:_MESSAGE_CHARS]}"
    if reason in (None, "stop", "eos", "end_turn"):
        return None
    if reason in ("length", "max_tokens"):
        return (
            "model_truncated",
            "the answer was cut at the token limit; raise max_output_tokens or request fewer fields",
        )
    if reason == "content_filter":
        return "model_blocked", "the service blocked the answer: content_filter"
    return "model_stopped", f"the model stopped with finish reason {reason}"


def _usage(usage: Any) -> Usage:
    """Convert the usage; the output excludes reasoning, and the tokens of pictures are rarely reported."""
    if usage is None:
        return Usage()
    details = getattr(usage, "prompt_tokens_details", None)
    thoughts = _count(getattr(usage, "completion_tokens_details", None), "reasoning_tokens")
    input_tokens, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    return Usage(
        input_tokens=input_tokens,
        output_tokens=max(0, completion - thoughts),
        thought_tokens=thoughts,
        cached_tokens=_count(details, "cached_tokens"),
        total_tokens=_count(usage, "total_tokens") or input_tokens + completion,
        image_tokens=_count(details, "image_tokens"),
        audio_tokens=_count(details, "audio_tokens"),
    )


def _count(source: Any, name: str) -> int:
    value = getattr(source, name, None)
    return value if isinstance(value, int) else 0


def model_error_of(error: Exception, model: str) -> ModelError | None:
    """Convert an exception of the client; None if it is a defect of this program, to be raised unchanged."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return _status_error(error, model)
    if isinstance(error, openai.APIError | OSError | UnicodeDecodeError) or type(error).__name__ == "JSONDecodeError":
        cause = error.__cause__ or error
        message = (
            f"the service could not be reached or its response could not be read ({type(cause).__name__}: {cause})"
        )
        return ModelError("model_unavailable", message, retryable=True)
    return None


def _status_error(error: Any, model: str) -> ModelError:
    status, wait = error.status_code, retry_after_of(error.response.headers)
    message = f"HTTP {status}: {message_of(error)}"
    if error.code in _QUOTA_CODES or error.type in _QUOTA_CODES:
        return ModelError("quota_exhausted", message, retryable=True, retry_after_s=wait)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and "input is not supported" in message:
        return ModelError(
            "model_bad_request", message
        )  # llama.cpp, about pictures and sound that a model does not take
    return _error_of_status(status, message, model, wait)


def _error_of_status(status: int | None, message: str, model: str, wait: float | None = None) -> ModelError:
    """Return the error of an HTTP status; None if there is no status."""
    if status == HTTPStatus.PAYMENT_REQUIRED:
        return ModelError("quota_exhausted", message, retryable=True, retry_after_s=wait)
    code, retryable = failure_of_status(status)
    if code == "model_not_found":
        message = f"the service does not have model {model!r}; check the name and the base URL ({message})"
    return ModelError(code, message, retryable=retryable, retry_after_s=wait if retryable else None)


def message_of(error: Any) -> str:
    """Return the server's error message, without the client's prefix."""
    body = error.body
    text = body.get("message") or body.get("detail") if isinstance(body, Mapping) else None
    return str(text or error.message)[:_MESSAGE_CHARS]
