"""Fetching media over https without being led astray: no private address, no other port, no redirect, no endless body.

The name is resolved once; every address it has must be public, and the connection is made to the very address that was
checked, so a name that changes its mind between check and use (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from api.errors import ApiError

CONNECT_TIMEOUT_S: Final = 10.0
TOTAL_TIMEOUT_S: Final = 600.0
_BLOCK: Final = 1 << 20

Resolve = Callable[[str], list[str]]


def resolve_host(host: str) -> list[str]:
    """Every address of a host name.

    Raises:
        OSError: it has none.
    """
    return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)))


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet: not private, local, link-local, shared, reserved or multicast, nor
    an IPv6 form of such an IPv4 address."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if inner is None and parsed in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast


def fetch_https(
    url: str,
    out: Path,
    max_bytes: int,
    *,
    resolve: Resolve = resolve_host,
    allowed: Callable[[str], bool] = is_public,
    context: ssl.SSLContext | None = None,
    port: int = 443,
) -> None:
    """Fetches an https URL into a file.

    Args:
        resolve, allowed, context, port: replaced by tests, which cannot reach the internet.

    Raises:
        ApiError: 422 where the address is not allowed or does not give the media, 413 where it is larger than `max_bytes`.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username is not None:
        raise _refused(url, "only plain https://host/path addresses are fetched")
    if parts.port not in (None, 443):
        raise _refused(url, "only port 443 is fetched from")
    address = _checked_address(url, parts.hostname, resolve, allowed)
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    connection = _PinnedConnection(parts.hostname, address, port, context or ssl.create_default_context())
    try:
        connection.request("GET", target, headers={"User-Agent": "promptreel", "Accept": "*/*"})
        response = connection.getresponse()
        if response.status != 200:
            raise _refused(url, f"it answers {response.status} (redirects are not followed); give the final address")
        _copy(url, response, out, max_bytes)
    except (OSError, HTTPException) as error:
        raise _refused(url, f"it cannot be fetched ({type(error).__name__}: {error})") from error
    finally:
        connection.close()


def _checked_address(url: str, host: str, resolve: Resolve, allowed: Callable[[str], bool]) -> str:
    try:
        addresses = resolve(host)
    except (OSError, UnicodeError) as error:
        raise _refused(url, f"its host cannot be resolved ({error})") from error
    if not addresses or not all(allowed(address) for address in addresses):
        raise _refused(url, "its host is not on the public internet")
    return addresses[0]


class _PinnedConnection(HTTPSConnection):
    """Connects to a given address, and asks the certificate for the host's name."""

    def __init__(self, host: str, address: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=CONNECT_TIMEOUT_S, context=context)
        self._address = address
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def _copy(url: str, response: object, out: Path, max_bytes: int) -> None:
    until = time.monotonic() + TOTAL_TIMEOUT_S
    size = 0
    with out.open("wb") as file:
        while block := response.read(_BLOCK):  # type: ignore[attr-defined]
            size += len(block)
            if size > max_bytes:
                raise ApiError(413, "media_too_large", f"{url}: is larger than {max_bytes} bytes.")
            if time.monotonic() > until:
                raise _refused(url, f"it takes longer than {TOTAL_TIMEOUT_S:g} s")
            file.write(block)


def _refused(url: str, reason: str) -> ApiError:
    shown = url.split("?", 1)[0][:200]
    message = f"video_uri: {shown}: {reason}."
    return ApiError(422, "media_uri_refused", message, {"errors": [{"path": "video_uri", "message": message}]})
