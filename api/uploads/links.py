"""Signed addresses: whoever holds one can fetch one item's bytes, until it expires."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import Final

from promptreel.tables.storage import Storage

LIFETIME_S: Final = 3600
_SECRET_FILE: Final = "api/link-secret"


def link_secret(storage: Storage) -> bytes:
    """The secret that addresses are signed with. It lies in the data folder, so that every replica of the service honours
    an address, also after a restart."""
    storage.create_exclusive(_SECRET_FILE, secrets.token_hex(32).encode())
    return storage.read_bytes(_SECRET_FILE)


def link_token(secret: bytes, video_id: str, expires: int) -> str:
    """The token of an address for one item until an epoch second."""
    return hmac.new(secret, f"{video_id}:{expires}".encode(), hashlib.sha256).hexdigest()


def is_valid(secret: bytes, video_id: str, expires: int, token: str) -> bool:
    """Whether a token is that of the item and instant, and the instant has not come."""
    expected = link_token(secret, video_id, expires)
    return hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")) and expires >= time.time()
