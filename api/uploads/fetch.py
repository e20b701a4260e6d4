"""Fetch media over HTTPS, protected against SSRF: only public addresses, port 443, no redirects, bounded size and time.

The host name is resolved once. All its addresses must be public, and the connection is made to an address that was
checked, which defeats DNS rebinding.
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
# Addresses of local or special use that `ipaddress` considers global in some versions of Python.
_SPECIAL: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "::/96", "64:ff9b:1::/48", "100::/64", "5f00::/16", "fec0::/10")
)

Resolve = Callable[[str], list[str]]


def resolve_host(host: str) -> list[str]:
    """Return all addresses of a host name.

    Raises:
        OSError: it has no address.
    """
    return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)))


def is_public(address: str) -> bool:
    """Return whether an address is on the public internet.

    Private, local, link-local, shared, reserved and multicast addresses are not, nor are IPv6 forms of such IPv4
    addresses."""
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
    """Fetch an HTTPS URL into a file.

    Args:
        resolve, allowed, context, port: replaced in tests, which cannot reach the internet.
        timeout_s: total time limit, in seconds.

    Raises:
        ApiError: 422 if the URL is not allowed or cannot be fetched, 413 if the media exceeds `max_bytes`.
    """
    try:
        parts = urlsplit(url)
        url_port = parts.port
    except ValueError as error:
        raise _rejected(url, f"it is not a valid URL ({error})") from error
    if parts.scheme != "https" or not parts.hostname or parts.username is not None:
        raise _rejected(url, "the URL must have the form https://host/path, without credentials")
    if url_port not in (None, 443):
        raise _rejected(url, f"port {url_port} is not allowed; use port 443")
    address = _checked_address(url, parts.hostname, resolve, allowed)
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    connection = _PinnedConnection(parts.hostname, address, port, context or ssl.create_default_context())
    timer = threading.Timer(timeout_s, connection.abort)
    timer.start()
    try:
        connection.request("GET", target, headers={"User-Agent": "promptreel", "Accept": "*/*"})
        response = connection.getresponse()
        if response.status != 200:
            raise _rejected(
                url,
                f"the server responded {response.status}; use the final URL (redirects are not followed)",
            )
        _copy(url, response, out, max_bytes)
        if connection.is_aborted:
            raise TimeoutError("aborted")
    except (OSError, HTTPException, ValueError) as error:
        timeout = f" because it takes longer than {timeout_s:g} s" if connection.is_aborted else ""
        raise _rejected(url, f"it cannot be fetched{timeout} ({type(error).__name__}: {error})") from error
    finally:
        timer.cancel()
        connection.close()


def _checked_address(url: str, host: str, resolve: Resolve, allowed: Callable[[str], bool]) -> str:
    try:
        addresses = resolve(host)
    except (OSError, UnicodeError) as error:
        raise _rejected(url, f"its host cannot be resolved ({error})") from error
    if not addresses or not all(allowed(address) for address in addresses):
        raise _rejected(url, "its host is not on the public internet")
    return addresses[0]


class _PinnedConnection(HTTPSConnection):
    """An HTTPS connection to a fixed address that verifies the certificate against the host name."""

    def __init__(self, host: str, address: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=CONNECT_TIMEOUT_S, context=context)
        self._address = address
        self._tls = context
        self._secured: ssl.SSLSocket | None = None  # `sock` is None once a response has taken it over
        self.is_aborted = False

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        secured = self._tls.wrap_socket(plain, server_hostname=self.host, do_handshake_on_connect=False)
        self.sock = self._secured = secured
        secured.do_handshake()

    def abort(self) -> None:
        """Shut the connection down while another thread reads from it."""
        self.is_aborted = True
        if self._secured is not None:
            try:
                self._secured.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # already closed


def _copy(url: str, response: HTTPResponse, out: Path, max_bytes: int) -> None:
    declared_size = response.length
    size = 0
    with out.open("wb") as file:
        while block := response.read1(_BLOCK):
            size += len(block)
            if size > max_bytes:
                message = f"video_uri: {_without_query(url)}: exceeds the limit of {max_bytes} bytes."
                raise ApiError(413, "media_too_large", message)
            file.write(block)
    if declared_size is not None and size != declared_size:
        raise ConnectionError(f"the connection closed after {size} of {declared_size} bytes")


def _rejected(url: str, reason: str) -> ApiError:
    message = f"video_uri: {_without_query(url)}: {reason}."
    return ApiError(422, "media_uri_refused", message, {"errors": [{"path": "video_uri", "message": message}]})


def _without_query(url: str) -> str:
    """Remove the query of a URL, which may contain a secret."""
    return url.split("?", 1)[0][:200]
