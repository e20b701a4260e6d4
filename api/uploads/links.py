"""Signed URLs: each serves one item's bytes, or one of its frames, without a key until it expires."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import Final
from urllib.parse import quote, urlencode

from itsdangerous import Signer

from promptreel.api.web.paths import API_PREFIX
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


def content_url(secret: bytes, video_id: str, expires: int | None = None, base_url: str = "") -> str:
    """Return the signed URL of an item's bytes; without `base_url`, its path for a page of this service.

    Args:
        expires: epoch second; None lets it change once per hour, like that of a frame.
    """
    expires = _rounded_expiry() if expires is None else expires
    query = urlencode({"expires": expires, "token": link_token(secret, video_id, expires)})
    return f"{base_url}{API_PREFIX}/videos/{quote(video_id, safe='')}/content?{query}"


def frame_subject(run_id: str, video_id: str, time_us: int) -> str:
    """Return what the token of a frame signs instead of an item's id. Ids have no colon, so neither serves the other."""
    return f"frame:{run_id}:{video_id}:{time_us}"


def thumbnail_url(secret: bytes, base_url: str, run_id: str, video_id: str, time_us: int) -> str:
    """Return the signed URL of a frame. It is valid for one to two hours and changes once per hour, so that browsers
    cache the picture."""
    expires = _rounded_expiry()
    token = link_token(secret, frame_subject(run_id, video_id, time_us), expires)
    query = urlencode({"run_id": run_id, "time_us": time_us, "expires": expires, "token": token})
    return f"{base_url}{API_PREFIX}/videos/{quote(video_id, safe='')}/thumbnail?{query}"


def _rounded_expiry() -> int:
    """Return an epoch second in one to two hours, the same for an hour, so that browsers can cache what a URL loads."""
    return (int(time.time()) // LIFETIME_S + 2) * LIFETIME_S


def is_valid(secret: bytes, video_id: str, expires: int, token: str) -> bool:
    """Return whether a token matches the item (or `frame_subject`) and expiry, and has not expired.

    Tokens are compared as text, because several base64 strings decode to the same bytes."""
    expected = link_token(secret, video_id, expires)
    return hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")) and expires >= time.time()


def _signer(secret: bytes) -> Signer:
    return Signer(secret, salt=_SALT, key_derivation="hmac", digest_method=hashlib.sha256)
