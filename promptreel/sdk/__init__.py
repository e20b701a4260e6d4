"""The Python SDK: `PromptReel` and `AsyncPromptReel`, clients of the prompt-run API."""

from promptreel.sdk.client import AsyncPromptReel, PromptReel
from promptreel.sdk.errors import (
    ApiStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ConnectionFailed,
    NotFoundError,
    PermissionDeniedError,
    PromptReelError,
    RateLimitError,
    RequestTimedOut,
    RunFailed,
    ServerError,
    ValidationError,
    WaitTimedOut,
)
from promptreel.sdk.events import Event
from promptreel.sdk.pages import AsyncPage, Page
from promptreel.sdk.retry import RetryPolicy

__all__ = [
    "ApiStatusError",
    "AsyncPage",
    "AsyncPromptReel",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "ConnectionFailed",
    "Event",
    "NotFoundError",
    "Page",
    "PermissionDeniedError",
    "PromptReel",
    "PromptReelError",
    "RateLimitError",
    "RequestTimedOut",
    "RetryPolicy",
    "RunFailed",
    "ServerError",
    "ValidationError",
    "WaitTimedOut",
]
