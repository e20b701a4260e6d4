"""API keys: create, list, revoke, rotate. Each needs a key of the scope admin."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from promptreel.schemas.wire.accounts import ApiKeyBody, NewApiKey, RotatedApiKey, Scope
from promptreel.schemas.wire.common import Message
from promptreel.sdk.calls import api_keys as calls
from promptreel.sdk.resources.base import AsyncResource, Resource


class ApiKeys(Resource):
    """API keys: create, list, revoke, rotate. Each needs a key of the scope admin."""

    def create(
        self, name: str, *, scopes: Sequence[Scope] | None = None, expires_in_days: int | None = None
    ) -> NewApiKey:
        """Creates a key, with the scope read unless told otherwise; its secret, `key`, is in this answer alone."""
        return self._send(calls.create(name, scopes=scopes, expires_in_days=expires_in_days))

    def retrieve(self, key_id: str) -> ApiKeyBody:
        """Gives a key, without its secret."""
        return self._send(calls.retrieve(key_id))

    def list(self) -> builtins.list[ApiKeyBody]:
        """Gives all keys, newest first, revoked ones too."""
        return self._send(calls.list_keys())

    def delete(self, key_id: str) -> Message:
        """Deletes a key for good."""
        return self._send(calls.delete(key_id))

    def revoke(self, key_id: str) -> ApiKeyBody:
        """Revokes a key; it stays in the list."""
        return self._send(calls.revoke(key_id))

    def rotate(self, key_id: str) -> RotatedApiKey:
        """Revokes a key and makes one with the same name, scopes and expiry in its place."""
        return self._send(calls.rotate(key_id))


class AsyncApiKeys(AsyncResource):
    """API keys: create, list, revoke, rotate. Each needs a key of the scope admin."""

    async def create(
        self, name: str, *, scopes: Sequence[Scope] | None = None, expires_in_days: int | None = None
    ) -> NewApiKey:
        """Creates a key, with the scope read unless told otherwise; its secret, `key`, is in this answer alone."""
        return await self._send(calls.create(name, scopes=scopes, expires_in_days=expires_in_days))

    async def retrieve(self, key_id: str) -> ApiKeyBody:
        """Gives a key, without its secret."""
        return await self._send(calls.retrieve(key_id))

    async def list(self) -> builtins.list[ApiKeyBody]:
        """Gives all keys, newest first, revoked ones too."""
        return await self._send(calls.list_keys())

    async def delete(self, key_id: str) -> Message:
        """Deletes a key for good."""
        return await self._send(calls.delete(key_id))

    async def revoke(self, key_id: str) -> ApiKeyBody:
        """Revokes a key; it stays in the list."""
        return await self._send(calls.revoke(key_id))

    async def rotate(self, key_id: str) -> RotatedApiKey:
        """Revokes a key and makes one with the same name, scopes and expiry in its place."""
        return await self._send(calls.rotate(key_id))
