"""Where the service is and how it is spoken to."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx

from promptreel import __version__
from promptreel.sdk.errors import PromptReelError
from promptreel.sdk.retry import RetryPolicy

API_KEY_VARIABLE = "PROMPTREEL_API_KEY"
BASE_URL_VARIABLE = "PROMPTREEL_BASE_URL"
DEFAULT_BASE_URL = "http://127.0.0.1:8080"  # that of `promptreel serve`
PREFIX = "/api/v2"
# An idle connection is given up before the service gives it up (after 5 s), so that no request meets a closing one.
_KEEP_IDLE_S = 4.0


@dataclass(frozen=True)
class Connection:
    """Settings of a client.

    Attributes:
        api_key: never shown.
        base_url: without `/api/v2`.
        timeout_s: seconds without a byte in either direction after which a request is given up.
        connect_timeout_s: seconds to establish a connection.
        verify: whether certificates are checked, or the context that checks them.
        trust_env: whether proxies named in the environment are used.
    """

    api_key: str = field(repr=False)
    base_url: str
    timeout_s: float
    connect_timeout_s: float
    retries: RetryPolicy
    verify: bool | ssl.SSLContext
    trust_env: bool

    def client_options(self) -> dict[str, Any]:
        """Options of an httpx client, none left to its defaults that matters here."""
        return {
            "base_url": self.base_url + PREFIX,
            "headers": {"X-API-Key": self.api_key, "User-Agent": f"promptreel/{__version__}"},
            "verify": self.verify,
            "trust_env": self.trust_env,
            "http1": True,
            "http2": False,
            "follow_redirects": False,  # the key must not travel elsewhere
            "limits": httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=_KEEP_IDLE_S),
        }

    def timeout(self, patience_s: float, left_s: float) -> httpx.Timeout:
        """Time limits of one request that is given `patience_s` at least; none goes beyond the seconds that are left."""
        return httpx.Timeout(
            connect=min(self.connect_timeout_s, left_s),
            read=min(max(self.timeout_s, patience_s), left_s),
            write=min(self.timeout_s, left_s),
            pool=min(self.timeout_s, left_s),
        )

    @property
    def masked_key(self) -> str:
        """What may be shown of the key: that there is one."""
        return "sk_live_…" if self.api_key.startswith("sk_live_") else "…"


def connection(
    api_key: str | None,
    base_url: str | None,
    *,
    timeout_s: float,
    connect_timeout_s: float,
    retries: RetryPolicy,
    verify: bool | ssl.SSLContext,
    trust_env: bool,
    environment: Mapping[str, str] | None = None,
) -> Connection:
    """Checked settings; key and address come from the environment where they are None.

    Raises:
        PromptReelError: there is no key, or the address is none.
        ValueError: a time limit is not above 0.
    """
    variables = os.environ if environment is None else environment
    for name, value in (("timeout_s", timeout_s), ("connect_timeout_s", connect_timeout_s)):
        if not value > 0:
            raise ValueError(f"{name} is {value}; give seconds above 0")
    return Connection(
        _checked_key(api_key if api_key is not None else variables.get(API_KEY_VARIABLE)),
        _checked_url(base_url or variables.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL),
        timeout_s,
        connect_timeout_s,
        retries,
        verify,
        trust_env,
    )


def _checked_key(key: str | None) -> str:
    key = (key or "").strip()
    if not key:
        raise PromptReelError(
            f"there is no API key: give api_key=, or set {API_KEY_VARIABLE}; `promptreel keys create` makes one"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise PromptReelError("the API key holds characters that no key has; copy it again")
    return key


def _checked_url(text: str) -> str:
    """The address without a slash, or the API's prefix, at its end."""
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL as error:
        raise PromptReelError(f"base_url cannot be read ({error}); give one like {DEFAULT_BASE_URL}") from error
    if url.userinfo:
        raise PromptReelError("base_url holds a user name or password; give the key as api_key= and nothing in the URL")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise PromptReelError(f"base_url is {text!r}; give one like {DEFAULT_BASE_URL}")
    return str(url).rstrip("/").removesuffix(PREFIX).rstrip("/")
