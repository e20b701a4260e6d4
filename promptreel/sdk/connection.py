"""Connection settings of a client."""

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
API_PREFIX = "/api/v2"
# The service closes idle connections after 5 s. Closing them earlier avoids sending a request on a closing connection.
_KEEPALIVE_EXPIRY_S = 4.0


@dataclass(frozen=True)
class Connection:
    """Connection settings of a client.

    Attributes:
        api_key: secret; never shown.
        base_url: without `/api/v2`.
        timeout_s: seconds without network activity after which a request fails.
        connect_timeout_s: seconds to establish a connection.
        verify: whether to verify TLS certificates, or the SSL context to use.
        trust_env: whether to use proxies from the environment.
    """

    api_key: str = field(repr=False)
    base_url: str
    timeout_s: float
    connect_timeout_s: float
    retries: RetryPolicy
    verify: bool | ssl.SSLContext
    trust_env: bool

    def client_options(self) -> dict[str, Any]:
        """Return the arguments of an httpx client."""
        return {
            "base_url": self.base_url + API_PREFIX,
            "headers": {"X-API-Key": self.api_key, "User-Agent": f"promptreel/{__version__}"},
            "verify": self.verify,
            "trust_env": self.trust_env,
            "http1": True,
            "http2": False,
            "follow_redirects": False,  # a redirect must not send the API key to another host
            "limits": httpx.Limits(
                max_connections=100, max_keepalive_connections=20, keepalive_expiry=_KEEPALIVE_EXPIRY_S
            ),
        }

    def timeout(self, min_timeout_s: float, remaining_s: float) -> httpx.Timeout:
        """Return the time limits of one request.

        Args:
            min_timeout_s: lower limit of the read timeout.
            remaining_s: seconds until the caller's deadline; upper limit of every timeout.
        """
        return httpx.Timeout(
            connect=min(self.connect_timeout_s, remaining_s),
            read=min(max(self.timeout_s, min_timeout_s), remaining_s),
            write=min(self.timeout_s, remaining_s),
            pool=min(self.timeout_s, remaining_s),
        )

    @property
    def masked_key(self) -> str:
        """The API key without its secret part, for display."""
        return "sk_live_…" if self.api_key.startswith("sk_live_") else "…"


def resolve_connection(
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
    """Validate connection settings. A key or URL that is None is read from the environment.

    Raises:
        PromptReelError: the API key is missing or invalid, or base_url is invalid.
        ValueError: a timeout is not above 0.
    """
    variables = os.environ if environment is None else environment
    for name, value in (("timeout_s", timeout_s), ("connect_timeout_s", connect_timeout_s)):
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be above 0 seconds")
    return Connection(
        _validate_key(api_key if api_key is not None else variables.get(API_KEY_VARIABLE)),
        _validate_url(base_url or variables.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL),
        timeout_s,
        connect_timeout_s,
        retries,
        verify,
        trust_env,
    )


def _validate_key(key: str | None) -> str:
    key = (key or "").strip()
    if not key:
        raise PromptReelError(
            f"the API key is missing; pass api_key= or set {API_KEY_VARIABLE}. `promptreel keys create` creates one"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise PromptReelError("the API key contains invalid characters; copy it again")
    return key


def _validate_url(text: str) -> str:
    """Return the URL without a trailing slash or API prefix."""
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL as error:
        raise PromptReelError(f"base_url is not a valid URL ({error}); use a URL such as {DEFAULT_BASE_URL}") from error
    if url.userinfo:
        raise PromptReelError("base_url contains a user name or password; remove them and pass the key as api_key=")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise PromptReelError(f"base_url is {text!r}; it must be an http or https URL such as {DEFAULT_BASE_URL}")
    return str(url).rstrip("/").removesuffix(API_PREFIX).rstrip("/")
