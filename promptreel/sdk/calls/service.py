"""The service itself: whether the key is valid, and rate limits."""

from __future__ import annotations

from promptreel.schemas.wire.accounts import RateStatus
from promptreel.sdk.request import Call, Request


def validate() -> Call[None]:
    """Returns where the key is valid.

    Raises:
        AuthenticationError: it is not.
    """
    return Call(Request("GET", "/auth/validate"), type(None))


def rate_limit_status() -> Call[RateStatus]:
    """Gives what was used of the rate limits."""
    return Call(Request("GET", "/rate-limit/status"), RateStatus)
