"""The exception hierarchy of the SDK.

    PromptReelError                 base class; raised itself for invalid settings and unreadable responses
    ├── ApiStatusError              the service returned an error: status, code, message, details, request_id
    │   ├── BadRequestError         400
    │   ├── AuthenticationError     401
    │   ├── PermissionDeniedError   403
    │   ├── NotFoundError           404
    │   ├── ConflictError           409
    │   ├── ValidationError         422
    │   ├── RateLimitError          429; retry_after_s
    │   └── ServerError             5xx; retry_after_s
    ├── ConnectionFailed            the service could not be reached, or the connection broke
    ├── RequestTimedOut             the service did not respond in time
    ├── RunFailed                   the run or retry being waited for failed
    └── WaitTimedOut                the operation being waited for did not finish in time

Invalid arguments raise ValueError or TypeError before any request is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from promptreel.schemas.errors import ExpectedError

__all__ = [
    "ApiStatusError",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "ConnectionFailed",
    "NotFoundError",
    "PermissionDeniedError",
    "PromptReelError",
    "RateLimitError",
    "RequestTimedOut",
    "RunFailed",
    "ServerError",
    "ValidationError",
    "WaitTimedOut",
    "error_type_for_status",
]


class PromptReelError(ExpectedError):
    """Base class of the SDK's errors."""


class ApiStatusError(PromptReelError):
    """The service returned an error.

    Args:
        status: HTTP status.
        code: machine-readable error code, e.g. "resource_run_not_found".
        message: the service's explanation.
        details: machine-readable details, if any.
        request_id: identifies the request in the service's log.
        retry_after_s: seconds to wait before retrying, if the service sent any.
    """

    advice: ClassVar[str] = ""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(status, code, message, details, request_id, retry_after_s)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        request = f", request {self.request_id}" if self.request_id else ""
        delay = f" Retry after {self.retry_after_s:g} s." if self.retry_after_s is not None else ""
        advice = f" {self.advice}" if self.advice else ""
        return f"{self.message}{advice}{delay} (HTTP {self.status} {self.code}{request})"


class BadRequestError(ApiStatusError):
    """400: the request is malformed."""

    advice = "Fix the request; a retry will fail in the same way."


class AuthenticationError(ApiStatusError):
    """401: the API key is missing or invalid."""

    advice = "Check api_key or PROMPTREEL_API_KEY; `promptreel keys create` creates a key."


class PermissionDeniedError(ApiStatusError):
    """403: the key lacks the required scope."""

    advice = "Use a key with the required scope."


class NotFoundError(ApiStatusError):
    """404: the resource does not exist in the key's account."""

    advice = "Check the id and that it belongs to the key's account."


class ConflictError(ApiStatusError):
    """409: the request conflicts with the state of the resource or an earlier request with the same Idempotency-Key."""

    advice = "Check the state of the resource before retrying."


class ValidationError(ApiStatusError):
    """422: the request is well-formed but invalid."""

    advice = "Correct the values named in the message."


class RateLimitError(ApiStatusError):
    """429: too many requests."""

    advice = "Send fewer requests; client.rate_limits.status() shows the limits."


class ServerError(ApiStatusError):
    """5xx: the service failed."""

    advice = "Try again later, or look up the request id in the service's log."


class ConnectionFailed(PromptReelError):
    """The service could not be reached, or the connection broke."""


class RequestTimedOut(PromptReelError):
    """The service did not respond in time."""


class RunFailed(PromptReelError):
    """The run or retry being waited for failed.

    Args:
        message: what failed, why, and how to find out more.
        state: the final `PromptRunBody` or `SegmentRetry`.
    """

    def __init__(self, message: str, state: Any) -> None:
        super().__init__(message, state)
        self.message = message
        self.state = state

    def __str__(self) -> str:
        return self.message


class WaitTimedOut(PromptReelError):
    """The operation being waited for did not finish in time; it continues on the service.

    Args:
        message: the operation, its last status, and what to do.
        state: its last known state.
    """

    def __init__(self, message: str, state: Any) -> None:
        super().__init__(message, state)
        self.message = message
        self.state = state

    def __str__(self) -> str:
        return self.message


_ERROR_TYPES: dict[int, type[ApiStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: ValidationError,
    429: RateLimitError,
}


def error_type_for_status(status: int) -> type[ApiStatusError]:
    """Return the error class for an HTTP status, `ApiStatusError` if it has no specific class."""
    return ServerError if status >= 500 else _ERROR_TYPES.get(status, ApiStatusError)
