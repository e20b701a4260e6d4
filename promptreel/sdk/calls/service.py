"""API key validation and rate limits."""

from __future__ import annotations

from promptreel.schemas.wire.accounts import RateStatus
from promptreel.sdk.request import Call, Request


def validate() -> Call[None]:
    """Validate the API key.

    Raises:
        AuthenticationError: the key is invalid.
    """
    return Call(Request("GET", "/auth/validate"), type(None))


def rate_limit_status() -> Call[RateStatus]:
    """Get the current usage of the rate limits."""
    return Call(Request("GET", "/rate-limit/status"), RateStatus)
