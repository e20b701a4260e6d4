"""Fetching media over https without being led astray: no private address, no other port, no redirect, no endless body.

The name is resolved once; every address it has must be public, and the connection is made to the very address that was
checked, so a name that changes its mind between check and use (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from promptreel.api.web.errors import ApiError

CONNECT_TIMEOUT_S: Final = 10.0
TOTAL_TIMEOUT_S: Final = 600.0
_BLOCK: Final = 1 << 20
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
# Addresses for local and special use that `ipaddress` takes for global ones in some versions of Python.
_SPECIAL: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "::/96", "64:ff9b:1::/48", "100::/64", "5f00::/16", "fec0::/10")
)

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
        if inner is None and parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    special = any(parsed in network for network in _SPECIAL if network.version == parsed.version)
    return parsed.is_global and not parsed.is_multicast and not special


def fetch_https(
    url: str,
    out: Path,
    max_bytes: int,
    *,
    resolve: Resolve = resolve_host,
    allowed: Callable[[str], bool] = is_public,
    context: ssl.SSLContext | None = None,
    port: int = 443,
    timeout_s: float = TOTAL_TIMEOUT_S,
) -> None:
    """Fetches an https URL into a file.

    Args:
        resolve, allowed, context, port: replaced by tests, which cannot reach the internet.
        timeout_s: seconds after which the fetch is broken off, whatever it is at.

    Raises:
        ApiError: 422 where the address is not allowed or does not give the media, 413 where it is larger than `max_bytes`.
    """
    try:
        parts = urlsplit(url)
        given_port = parts.port
    except ValueError as error:
        raise _refused(url, f"it is no address ({error})") from error
    if parts.scheme != "https" or not parts.hostname or parts.username is not None:
        raise _refused(url, "only plain https://host/path addresses are fetched")
    if given_port not in (None, 443):
        raise _refused(url, "only port 443 is fetched from")
    address = _checked_address(url, parts.hostname, resolve, allowed)
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    connection = _PinnedConnection(parts.hostname, address, port, context or ssl.create_default_context())
    watch = threading.Timer(timeout_s, connection.break_off)
    watch.start()
    try:
        connection.request("GET", target, headers={"User-Agent": "promptreel", "Accept": "*/*"})
        response = connection.getresponse()
        if response.status != 200:
            raise _refused(url, f"it answers {response.status} (redirects are not followed); give the final address")
        _copy(url, response, out, max_bytes)
        if connection.broken_off:
            raise TimeoutError("broken off")
    except (OSError, HTTPException, ValueError) as error:
        late = f"it takes longer than {timeout_s:g} s; " if connection.broken_off else ""
        raise _refused(url, f"{late}it cannot be fetched ({type(error).__name__}: {error})") from error
    finally:
        watch.cancel()
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
        self._secured: ssl.SSLSocket | None = None  # kept here too, for a response may take the connection's over
        self.broken_off = False

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        secured = self._tls.wrap_socket(plain, server_hostname=self.host, do_handshake_on_connect=False)
        self.sock = self._secured = secured
        secured.do_handshake()

    def break_off(self) -> None:
        """Ends what another thread reads from this connection; called when its time is over."""
        self.broken_off = True
        if self._secured is not None:
            try:
                self._secured.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended by itself


def _copy(url: str, response: HTTPResponse, out: Path, max_bytes: int) -> None:
    promised = response.length
    size = 0
    with out.open("wb") as file:
        while block := response.read1(_BLOCK):
            size += len(block)
            if size > max_bytes:
                raise ApiError(413, "media_too_large", f"{_shown(url)}: is larger than {max_bytes} bytes.")
            file.write(block)
    if promised is not None and size != promised:
        raise ConnectionError(f"the connection closed after {size} of {promised} bytes")


def _refused(url: str, reason: str) -> ApiError:
    message = f"video_uri: {_shown(url)}: {reason}."
    return ApiError(422, "media_uri_refused", message, {"errors": [{"path": "video_uri", "message": message}]})


def _shown(url: str) -> str:
    """An address without its query, which may hold a secret."""
    return url.split("?", 1)[0][:200]
