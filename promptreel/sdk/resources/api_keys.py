"""API keys: create, list, revoke, rotate. Every method needs a key with the admin scope."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from promptreel.schemas.wire.accounts import ApiKeyBody, NewApiKey, RotatedApiKey, Scope
from promptreel.schemas.wire.common import Message
from promptreel.sdk.calls import api_keys as calls
from promptreel.sdk.resources.base import AsyncResource, Resource


class ApiKeys(Resource):
    """API keys: create, list, revoke, rotate. Every method needs a key with the admin scope."""

    def create(
        self, name: str, *, scopes: Sequence[Scope] | None = None, expires_in_days: int | None = None
    ) -> NewApiKey:
        """Create a key, with the read scope by default. Only this response contains the secret, `key`."""
        return self._send(calls.create(name, scopes=scopes, expires_in_days=expires_in_days))

    def retrieve(self, key_id: str) -> ApiKeyBody:
        """Get a key, without its secret."""
        return self._send(calls.retrieve(key_id))

    def list(self) -> builtins.list[ApiKeyBody]:
        """List all keys, newest first, including revoked ones."""
        return self._send(calls.list_keys())

    def delete(self, key_id: str) -> Message:
        """Delete a key permanently."""
        return self._send(calls.delete(key_id))

    def revoke(self, key_id: str) -> ApiKeyBody:
        """Revoke a key; it stays in the list."""
        return self._send(calls.revoke(key_id))

    def rotate(self, key_id: str) -> RotatedApiKey:
        """Revoke a key and create a replacement with the same name, scopes and expiry."""
        return self._send(calls.rotate(key_id))


class AsyncApiKeys(AsyncResource):
    """API keys: create, list, revoke, rotate. Every method needs a key with the admin scope."""

    async def create(
        self, name: str, *, scopes: Sequence[Scope] | None = None, expires_in_days: int | None = None
    ) -> NewApiKey:
        """Create a key, with the read scope by default. Only this response contains the secret, `key`."""
        return await self._send(calls.create(name, scopes=scopes, expires_in_days=expires_in_days))

    async def retrieve(self, key_id: str) -> ApiKeyBody:
        """Get a key, without its secret."""
        return await self._send(calls.retrieve(key_id))

    async def list(self) -> builtins.list[ApiKeyBody]:
        """List all keys, newest first, including revoked ones."""
        return await self._send(calls.list_keys())

    async def delete(self, key_id: str) -> Message:
        """Delete a key permanently."""
        return await self._send(calls.delete(key_id))

    async def revoke(self, key_id: str) -> ApiKeyBody:
        """Revoke a key; it stays in the list."""
        return await self._send(calls.revoke(key_id))

    async def rotate(self, key_id: str) -> RotatedApiKey:
        """Revoke a key and create a replacement with the same name, scopes and expiry."""
        return await self._send(calls.rotate(key_id))
