"""Parse responses into results or errors."""

from __future__ import annotations

from typing import TypeVar

import httpx2 as httpx
import pydantic

from promptreel.schemas.wire.common import ErrorResponse
from promptreel.sdk.errors import (
    ApiStatusError,
    ConnectionFailed,
    PromptReelError,
    RequestTimedOut,
    error_type_for_status,
)
from promptreel.sdk.request import Call, Request
from promptreel.sdk.retry import retry_after_s

Result = TypeVar("Result")

_MAX_EXCERPT_CHARS = 200


def parse_response(call: Call[Result], response: httpx.Response) -> Result:
    """Parse the body of a successful response.

    Raises:
        PromptReelError: the body does not match the call's result type.
    """
    if call.result_type is type(None):
        return None
    try:
        result: Result = pydantic.TypeAdapter(call.result_type).validate_json(response.content)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        location = ".".join(str(part) for part in first["loc"]) or "the body"
        raise PromptReelError(
            f"cannot parse the response to {call.request} ({location}: {first['msg']}); check that base_url is a "
            "promptreel service of a version compatible with this SDK. "
            f"The response starts with {response.text[:_MAX_EXCERPT_CHARS]!r}"
        ) from error
    return result


def error_from_response(request: Request, response: httpx.Response) -> ApiStatusError:
    """Return the error for an unsuccessful response whose body has been read."""
    error_type = error_type_for_status(response.status_code)
    delay_s = retry_after_s(response.headers.get("Retry-After"))
    try:
        body = ErrorResponse.model_validate_json(response.content).error
    except pydantic.ValidationError:
        return error_type(
            response.status_code,
            "unreadable_error",
            _describe_foreign_response(request, response),
            None,
            response.headers.get("X-Request-ID"),
            delay_s,
        )
    request_id = body.request_id or response.headers.get("X-Request-ID")
    return error_type(response.status_code, body.code, body.message, body.details, request_id, delay_s)


def error_from_transport(request: Request, error: httpx.RequestError, base_url: str) -> PromptReelError:
    """Return the error for a request that got no response, with `error` as its cause."""
    reason = str(error) or type(error).__name__
    failure: PromptReelError
    if isinstance(error, httpx.TimeoutException):
        failure = RequestTimedOut(
            f"{request} to {base_url} timed out ({type(error).__name__}); increase timeout_s, or try again"
        )
    else:
        failure = ConnectionFailed(
            f"{request} got no response from {base_url} ({reason}); check base_url and that the service is running"
        )
    failure.__cause__ = error
    return failure


def _describe_foreign_response(request: Request, response: httpx.Response) -> str:
    if response.is_redirect:
        return f"{request} was redirected to {response.headers.get('Location')!r}; set base_url to the service itself."
    excerpt = response.text[:_MAX_EXCERPT_CHARS]
    return (
        f"{request} failed, and the response is not from a promptreel service; check base_url. "
        f"The response starts with {excerpt!r}."
    )
