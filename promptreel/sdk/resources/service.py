"""API key validation and rate limits."""

from __future__ import annotations

from promptreel.schemas.wire.accounts import RateStatus
from promptreel.sdk.calls import service as calls
from promptreel.sdk.resources.base import AsyncResource, Resource


class RateLimits(Resource):
    """Usage of the rate limits."""

    def status(self) -> RateStatus:
        """Get the current usage of the rate limits."""
        return self._send(calls.rate_limit_status())


class AsyncRateLimits(AsyncResource):
    """Usage of the rate limits."""

    async def status(self) -> RateStatus:
        """Get the current usage of the rate limits."""
        return await self._send(calls.rate_limit_status())


class Auth(Resource):
    """API key validation."""

    def validate(self) -> None:
        """Validate the API key.

        Raises:
            AuthenticationError: the key is invalid.
        """
        self._send(calls.validate())


class AsyncAuth(AsyncResource):
    """API key validation."""

    async def validate(self) -> None:
        """Validate the API key; see `Auth.validate`."""
        await self._send(calls.validate())
