"""API keys: create, list, revoke, rotate. Every method needs a key with the admin scope."""

from __future__ import annotations

from collections.abc import Sequence

from promptreel.schemas.wire.accounts import ApiKeyBody, NewApiKey, RotatedApiKey, Scope
from promptreel.schemas.wire.common import Message
from promptreel.sdk.request import Call, Request, omit_none, path_of


def create(name: str, *, scopes: Sequence[Scope] | None = None, expires_in_days: int | None = None) -> Call[NewApiKey]:
    """Create a key, with the read scope by default. Only this response contains the secret, `key`."""
    body = omit_none(name=name, scopes=None if scopes is None else list(scopes), expires_in_days=expires_in_days)
    return Call(Request("POST", "/api-keys", json=body), NewApiKey)


def retrieve(key_id: str) -> Call[ApiKeyBody]:
    """Get a key, without its secret."""
    return Call(Request("GET", path_of("api-keys", key_id)), ApiKeyBody)


def list_keys() -> Call[list[ApiKeyBody]]:
    """List all keys, newest first, including revoked ones."""
    return Call(Request("GET", "/api-keys"), list[ApiKeyBody])


def delete(key_id: str) -> Call[Message]:
    """Delete a key permanently."""
    return Call(Request("DELETE", path_of("api-keys", key_id)), Message)


def revoke(key_id: str) -> Call[ApiKeyBody]:
    """Revoke a key; it stays in the list."""
    return Call(Request("POST", path_of("api-keys", key_id, "revoke")), ApiKeyBody)


def rotate(key_id: str) -> Call[RotatedApiKey]:
    """Revoke a key and create a replacement with the same name, scopes and expiry."""
    return Call(Request("POST", path_of("api-keys", key_id, "rotate")), RotatedApiKey)
