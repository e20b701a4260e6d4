"""The service itself: whether the key is valid, and rate limits."""

from __future__ import annotations

from promptreel.schemas.wire.accounts import RateStatus
from promptreel.sdk.calls import service as calls
from promptreel.sdk.resources.base import AsyncResource, Resource


class RateLimits(Resource):
    """What was used of the rate limits."""

    def status(self) -> RateStatus:
        """Gives what was used of the rate limits."""
        return self._send(calls.rate_limit_status())


class AsyncRateLimits(AsyncResource):
    """What was used of the rate limits."""

    async def status(self) -> RateStatus:
        """Gives what was used of the rate limits."""
        return await self._send(calls.rate_limit_status())


class Auth(Resource):
    """Whether the key is valid."""

    def validate(self) -> None:
        """Returns where the key is valid.

        Raises:
            AuthenticationError: it is not.
        """
        self._send(calls.validate())


class AsyncAuth(AsyncResource):
    """Whether the key is valid."""

    async def validate(self) -> None:
        """Returns where the key is valid.

        See `Auth.validate`.
        """
        await self._send(calls.validate())
