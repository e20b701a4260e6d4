"""A link that signs in one browser once, shortly after it was created."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from typing import Final

LIFETIME_S: Final = 120.0


class OneTimeLink:
    """The link of one process. Thread-safe.

    Attributes:
        token: 256 random bits.
        key_hash: of the key that the browser is signed in with.
        target: path of the page that the link leads to.
    """

    def __init__(self, key_hash: str, target: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.token: Final = secrets.token_urlsafe(32)
        self.key_hash = key_hash
        self.target = target
        self._clock = clock
        self._until_s = clock() + LIFETIME_S
        self._is_used = False
        self._lock = threading.Lock()

    def use(self, token: str) -> bool:
        """Use the link; return whether the token is its own, and it was neither used nor expired. A wrong token changes
        nothing."""
        is_right = hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())
        with self._lock:
            is_valid = is_right and not self._is_used and self._clock() < self._until_s
            self._is_used = self._is_used or is_valid
        return is_valid
