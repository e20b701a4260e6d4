"""API keys as a page shows them, without their secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptreel.api.web.auth import Principal
from promptreel.pages.moments import shown_moment


@dataclass(frozen=True, slots=True)
class ListedKey:
    """An API key.

    Attributes:
        prefix: the first characters of its secret.
        status: active, expired or revoked.
        is_current: whether this session uses it.
    """

    key_id: str
    name: str
    prefix: str
    scopes: str
    status: str
    created_at: str
    last_used_at: str | None
    expires_at: str | None
    is_current: bool


def shown_key(body: Mapping[str, Any], caller: Principal) -> ListedKey:
    """Return a key, as rendered by `key_body`, as a page shows it."""
    status = "revoked" if body["revoked_at"] else "active" if body["is_active"] else "expired"
    last_used, expires = body["last_used_at"], body["expires_at"]
    return ListedKey(
        key_id=body["key_id"],
        name=body["name"],
        prefix=body["key_prefix"],
        scopes=", ".join(body["scopes"]),
        status=status,
        created_at=shown_moment(body["created_at"]),
        last_used_at=None if last_used is None else shown_moment(last_used),
        expires_at=None if expires is None else shown_moment(expires),
        is_current=body["key_id"] == caller.key_id,
    )
