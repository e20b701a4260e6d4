"""Signed URLs: each serves one item's bytes without a key until it expires."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import Final

from itsdangerous import Signer

from promptreel.tables.storage import Storage

LIFETIME_S: Final = 3600
_SECRET_FILE: Final = "api/link-secret"
_SALT: Final = "promptreel.link"


def link_secret(storage: Storage) -> bytes:
    """Load the secret that signs URLs, or create it.

    It is stored in the data folder, so URLs are valid on every replica and after a restart."""
    storage.create_exclusive(_SECRET_FILE, secrets.token_hex(32).encode())
    return storage.read_bytes(_SECRET_FILE)


def link_token(secret: bytes, video_id: str, expires: int) -> str:
    """Return the token of a URL for one item that expires at an epoch second."""
    return _signer(secret).get_signature(f"{video_id}:{expires}").decode()


def is_valid(secret: bytes, video_id: str, expires: int, token: str) -> bool:
    """Return whether a token matches the item and expiry, and has not expired.

    Tokens are compared as text, because several base64 strings decode to the same bytes."""
    expected = link_token(secret, video_id, expires)
    return hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")) and expires >= time.time()


def _signer(secret: bytes) -> Signer:
    return Signer(secret, salt=_SALT, key_derivation="hmac", digest_method=hashlib.sha256)
