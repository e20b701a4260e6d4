"""Signed addresses: each serves one item's bytes until it expires, without a key."""

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
    """The secret that addresses are signed with. It lies in the data folder, so that every replica of the service honours
    an address, also after a restart."""
    storage.create_exclusive(_SECRET_FILE, secrets.token_hex(32).encode())
    return storage.read_bytes(_SECRET_FILE)


def link_token(secret: bytes, video_id: str, expires: int) -> str:
    """The token of an address for one item until an epoch second."""
    return _signer(secret).get_signature(f"{video_id}:{expires}").decode()


def is_valid(secret: bytes, video_id: str, expires: int, token: str) -> bool:
    """Whether a token is that of the item and instant, and the instant has not come. It must be the same to the letter, for
    base64 has several spellings of the same bytes."""
    expected = link_token(secret, video_id, expires)
    return hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")) and expires >= time.time()


def _signer(secret: bytes) -> Signer:
    return Signer(secret, salt=_SALT, key_derivation="hmac", digest_method=hashlib.sha256)
