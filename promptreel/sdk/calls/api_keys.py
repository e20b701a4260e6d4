"""API keys: create, list, revoke, rotate. Each needs a key of the scope admin."""

from __future__ import annotations

from collections.abc import Sequence

from promptreel.schemas.wire.accounts import ApiKeyBody, NewApiKey, RotatedApiKey, Scope
from promptreel.schemas.wire.common import Message
from promptreel.sdk.request import Call, Request, given, path_of


def create(name: str, *, scopes: Sequence[Scope] | None = None, expires_in_days: int | None = None) -> Call[NewApiKey]:
    """Creates a key, with the scope read unless told otherwise; its secret, `key`, is in this answer alone."""
    body = given(name=name, scopes=None if scopes is None else list(scopes), expires_in_days=expires_in_days)
    return Call(Request("POST", "/api-keys", json=body), NewApiKey)


def retrieve(key_id: str) -> Call[ApiKeyBody]:
    """Gives a key, without its secret."""
    return Call(Request("GET", path_of("api-keys", key_id)), ApiKeyBody)


def list_keys() -> Call[list[ApiKeyBody]]:
    """Gives all keys, newest first, revoked ones too."""
    return Call(Request("GET", "/api-keys"), list[ApiKeyBody])


def delete(key_id: str) -> Call[Message]:
    """Deletes a key for good."""
    return Call(Request("DELETE", path_of("api-keys", key_id)), Message)


def revoke(key_id: str) -> Call[ApiKeyBody]:
    """Revokes a key; it stays in the list."""
    return Call(Request("POST", path_of("api-keys", key_id, "revoke")), ApiKeyBody)


def rotate(key_id: str) -> Call[RotatedApiKey]:
    """Revokes a key and makes one with the same name, scopes and expiry in its place."""
    return Call(Request("POST", path_of("api-keys", key_id, "rotate")), RotatedApiKey)
