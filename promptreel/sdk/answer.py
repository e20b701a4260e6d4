"""Responses as answers or errors."""

from __future__ import annotations

from typing import TypeVar

import httpx2 as httpx
import pydantic

from promptreel.schemas.wire.common import ErrorResponse
from promptreel.sdk.errors import ApiStatusError, ConnectionFailed, PromptReelError, RequestTimedOut, error_of_status
from promptreel.sdk.request import Call, Request
from promptreel.sdk.retry import retry_after_s

Answer = TypeVar("Answer")

_SHOWN_CHARS = 200


def answer_of(call: Call[Answer], response: httpx.Response) -> Answer:
    """The answer in a successful response.

    Raises:
        PromptReelError: the body is not what the call's type says.
    """
    if call.kind is type(None):
        return None
    try:
        answer: Answer = pydantic.TypeAdapter(call.kind).validate_json(response.content)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        raise PromptReelError(
            f"the answer to {call.request} cannot be read ({place}: {first['msg']}); check that base_url is a promptreel "
            f"service of a version that fits this SDK. It begins: {response.text[:_SHOWN_CHARS]!r}"
        ) from error
    return answer


def error_of_response(request: Request, response: httpx.Response) -> ApiStatusError:
    """The error in a response that is no success; its body must have been read."""
    kind = error_of_status(response.status_code)
    wait_s = retry_after_s(response.headers.get("Retry-After"))
    try:
        body = ErrorResponse.model_validate_json(response.content).error
    except pydantic.ValidationError:
        return kind(
            response.status_code,
            "unreadable_error",
            _foreign(request, response),
            None,
            response.headers.get("X-Request-ID"),
            wait_s,
        )
    request_id = body.request_id or response.headers.get("X-Request-ID")
    return kind(response.status_code, body.code, body.message, body.details, request_id, wait_s)


def error_of_transport(request: Request, error: httpx.RequestError, base_url: str) -> PromptReelError:
    """The error for a request that no response came to; the cause is chained."""
    what = str(error) or type(error).__name__
    failure: PromptReelError
    if isinstance(error, httpx.TimeoutException):
        failure = RequestTimedOut(
            f"{request} at {base_url} was not answered in time ({type(error).__name__}); raise timeout_s, or try again"
        )
    else:
        failure = ConnectionFailed(
            f"{request} did not get through to {base_url} ({what}); check that the service runs there, and base_url"
        )
    failure.__cause__ = error
    return failure


def _foreign(request: Request, response: httpx.Response) -> str:
    if response.is_redirect:
        return (
            f"{request} was redirected to {response.headers.get('Location')!r}; set base_url to where the service is."
        )
    text = response.text[:_SHOWN_CHARS]
    return f"{request} was refused by something that is no promptreel service; check base_url. It says: {text!r}."
