"""The one exception tree of the SDK.

    PromptReelError                 what the SDK raises on purpose; alone where settings or an answer cannot be used
    ├── ApiStatusError              the service answered with an error: status, code, message, details, request_id
    │   ├── BadRequestError         400
    │   ├── AuthenticationError     401
    │   ├── PermissionDeniedError   403
    │   ├── NotFoundError           404
    │   ├── ConflictError           409
    │   ├── ValidationError         422
    │   ├── RateLimitError          429; retry_after_s
    │   └── ServerError             5xx; retry_after_s
    ├── ConnectionFailed            the service could not be reached, or the connection broke
    ├── RequestTimedOut             the service did not answer in time
    ├── RunFailed                   a run, or a retry, that was waited for has failed
    └── WaitTimedOut                what was waited for was not finished at the deadline

Arguments that no request can be made of raise ValueError or TypeError before anything is sent.
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
    "error_of_status",
]


class PromptReelError(ExpectedError):
    """Base of every error that the SDK raises on purpose."""


class ApiStatusError(PromptReelError):
    """The service answered with an error.

    Args:
        status: HTTP status.
        code: a word for programs, e.g. "resource_run_not_found".
        message: the service's sentence.
        details: more for programs; None where there is nothing.
        request_id: finds the request in the service's log.
        retry_after_s: seconds that the service asked to wait; None where it said nothing.
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
        wait = f" Come back in {self.retry_after_s:g} s." if self.retry_after_s is not None else ""
        advice = f" {self.advice}" if self.advice else ""
        return f"{self.message}{advice}{wait} (HTTP {self.status} {self.code}{request})"


class BadRequestError(ApiStatusError):
    """400: the request is malformed."""

    advice = "Fix the request; sending it again changes nothing."


class AuthenticationError(ApiStatusError):
    """401: there is no valid API key."""

    advice = "Check api_key or PROMPTREEL_API_KEY; `promptreel keys create` makes a key."


class PermissionDeniedError(ApiStatusError):
    """403: the key's scopes do not allow this."""

    advice = "Use a key that holds the scope."


class NotFoundError(ApiStatusError):
    """404: nothing of that id belongs to the key's account."""

    advice = "Check the id, and that it belongs to this key's account."


class ConflictError(ApiStatusError):
    """409: the state of the resource, or an earlier request with the same key, forbids this."""

    advice = "Read the resource's state before trying again."


class ValidationError(ApiStatusError):
    """422: the request is well formed and cannot be fulfilled."""

    advice = "Change what the message names."


class RateLimitError(ApiStatusError):
    """429: too many requests."""

    advice = "Send fewer requests; client.rate_limits.status() shows the limits."


class ServerError(ApiStatusError):
    """5xx: the service failed."""

    advice = "Try again later; the service's log says more under the request id."


class ConnectionFailed(PromptReelError):
    """The service could not be reached, or the connection broke."""


class RequestTimedOut(PromptReelError):
    """The service did not answer in time."""


class RunFailed(PromptReelError):
    """A run, or a retry, that was waited for has failed.

    Args:
        message: what failed, why, and where to look.
        state: its last state, a `PromptRunBody` or a `SegmentRetry`.
    """

    def __init__(self, message: str, state: Any) -> None:
        super().__init__(message, state)
        self.message = message
        self.state = state

    def __str__(self) -> str:
        return self.message


class WaitTimedOut(PromptReelError):
    """What was waited for was not finished at the deadline; it goes on without being watched.

    Args:
        message: what was waited for, how it stood, and what to do.
        state: its last known state.
    """

    def __init__(self, message: str, state: Any) -> None:
        super().__init__(message, state)
        self.message = message
        self.state = state

    def __str__(self) -> str:
        return self.message


_BY_STATUS: dict[int, type[ApiStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: ValidationError,
    429: RateLimitError,
}


def error_of_status(status: int) -> type[ApiStatusError]:
    """The error for an HTTP status; those without one of their own are an `ApiStatusError`."""
    return ServerError if status >= 500 else _BY_STATUS.get(status, ApiStatusError)
