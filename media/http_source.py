"""Download a file over HTTP or HTTPS.

Temporary failures are retried. A retry continues where the download stopped, unless the file has changed or the server has
no ranges. Errors name the public form of the URL: see `promptreel.schemas.uris`.
"""

from __future__ import annotations

import base64
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from promptreel.schemas.errors import MediaError
from promptreel.schemas.uris import public_uri, redact

SCHEMES: Final = frozenset({"http", "https"})
TIMEOUT_S: Final = 60.0  # to connect, and between two blocks
RETRY_DELAYS_S: Final = (1.0, 4.0, 10.0)  # before the second attempt and later ones
MAX_RETRY_AFTER_S: Final = 30.0
_TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_BLOCK: Final = 1 << 20
_URL_CHARS: Final = "%/:?#[]@!$&'()*+,;=~"  # not escaped again


def fetch_http(uri: str, out: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    """Download a URL into a file.

    Userinfo in the URL becomes Basic authorization, for its own host only.

    Raises:
        MediaError: `media_not_found`, retryable, if the file cannot be fetched. The message and the exception's causes
            contain no secret of the URL.
    """
    try:
        download = _Download(uri, out)
    except ValueError as error:  # e.g. an invalid port
        raise _error(uri, f"not a valid URL: {error}") from None
    for attempt, delay_s in enumerate((*RETRY_DELAYS_S, None), start=1):
        try:
            download.receive()
            return
        except _FinalAnswer as error:
            raise _error(uri, str(error), error.status) from None
        except _AttemptFailed as error:
            if delay_s is None:
                raise _error(uri, f"{error}, after {attempt} attempts") from None
            sleep(delay_s if error.retry_after_s is None else error.retry_after_s)
        except OSError as error:
            raise _error(uri, f"cannot be stored on this machine: {error}") from None


class _FinalAnswer(Exception):
    """The server's answer is final, e.g. 404, or the URL is invalid."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class _AttemptFailed(Exception):
    """Another attempt may succeed."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass
class _Download:
    """One download over several attempts.

    Attributes:
        received: bytes in the file.
        validator: the server's ETag or date of the file, which must not change between the attempts.
    """

    uri: str
    out: Path
    received: int = 0
    validator: str | None = None

    def __post_init__(self) -> None:
        self._url, self._authorization = _request_parts(self.uri)
        self._opener = _opener()

    def receive(self) -> None:
        """Make one attempt; return once the file is complete.

        Raises:
            _AttemptFailed, _FinalAnswer: the attempt failed.
            OSError: the file cannot be written.
        """
        with self._open() as response:
            is_continued = response.status == HTTPStatus.PARTIAL_CONTENT
            if not is_continued:
                self.received = 0
                self.validator = _validator(response.headers)
            elif not str(response.headers.get("Content-Range", "")).startswith(f"bytes {self.received}-"):
                self.validator = None  # the next attempt restarts
                raise _AttemptFailed("the server sent another part of the file than the one requested")
            declared = response.length
            before = self.received
            with self.out.open("ab" if is_continued else "wb") as file:
                file.truncate(self.received)
                while block := _read(response):
                    file.write(block)
                    self.received += len(block)
            if declared is not None and self.received - before != declared:
                raise _AttemptFailed(f"the connection closed after {self.received - before} of {declared} bytes")

    def _open(self) -> HTTPResponse:
        request = urllib.request.Request(self._url, headers={"User-Agent": "promptreel", "Accept": "*/*"})
        if self._authorization is not None:
            request.add_unredirected_header("Authorization", self._authorization)
        if self.received and self.validator is not None:
            request.add_header("Range", f"bytes={self.received}-")
            request.add_header("If-Range", self.validator)
        try:
            return self._opener.open(request, timeout=TIMEOUT_S)  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            with error:
                raise self._http_error(error) from None
        except urllib.error.URLError as error:
            raise _connection_error(error.reason) from None
        except (OSError, HTTPException) as error:
            raise _connection_error(error) from None
        except ValueError as error:
            raise _FinalAnswer(f"not a valid URL: {error}") from None

    def _http_error(self, error: urllib.error.HTTPError) -> Exception:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self.received:
            self.received, self.validator = 0, None
            return _AttemptFailed("the file became shorter", 0.0)
        reason = f"the server responded {error.code} {_phrase(error.code)}".rstrip()
        if error.code in _TEMPORARY:
            return _AttemptFailed(reason, _retry_after_s(error.headers))
        if 300 <= error.code < 400:
            return _FinalAnswer(f"{reason}, a redirect that cannot be followed")
        return _FinalAnswer(reason, error.code)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTP and HTTPS; sends the authorization only to the host that it is for."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        new = super().redirect_request(req, fp, code, msg, headers, quote(newurl, safe=_URL_CHARS))
        authorization = req.get_header("Authorization")
        if new is not None and authorization is not None and _origin(newurl) == _origin(req.full_url):
            new.add_unredirected_header("Authorization", authorization)
        return new


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for HTTP and HTTPS with the proxies of the environment; other schemes are unknown to it."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _request_parts(uri: str) -> tuple[str, str | None]:
    """Return (URL without userinfo, escaped for a request; Authorization header or None).

    Raises:
        ValueError: the URL has no host, or is invalid.
    """
    parts = urlsplit(uri)
    if not parts.hostname:
        raise ValueError("it has no host")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    host = f"[{host}]" if ":" in host else host
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    url = urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))
    authorization = None
    if parts.username is not None:
        userinfo = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(userinfo.encode()).decode()}"
    return quote(url, safe=_URL_CHARS), authorization


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.hostname, parts.port


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (OSError, HTTPException) as error:
        raise _connection_error(error) from None


def _connection_error(reason: Any) -> Exception:
    if isinstance(reason, TimeoutError):
        return _AttemptFailed(f"no response within {TIMEOUT_S:g} s")
    if isinstance(reason, socket.gaierror):
        is_temporary = reason.errno == socket.EAI_AGAIN
        return (_AttemptFailed if is_temporary else _FinalAnswer)("the host name cannot be resolved")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return _FinalAnswer(f"the server's certificate is not valid: {reason.verify_message}")
    if isinstance(reason, str) and reason.startswith("unknown url type"):
        return _FinalAnswer("a redirect leads to an address that is neither HTTP nor HTTPS")
    if isinstance(reason, OSError | HTTPException):
        return _AttemptFailed(f"{type(reason).__name__}: {reason}")
    return _FinalAnswer(str(reason))


def _validator(headers: HTTPMessage) -> str | None:
    """Return the value for If-Range: a strong ETag, or the date of the last change."""
    etag = headers.get("ETag")
    if etag is not None and not etag.startswith("W/"):
        return str(etag)
    return headers.get("Last-Modified")


def _retry_after_s(headers: Message) -> float | None:
    """Return the seconds of a Retry-After header, at most `MAX_RETRY_AFTER_S`; None for a date or no header."""
    value = str(headers.get("Retry-After", "")).strip()
    return min(float(value), MAX_RETRY_AFTER_S) if value.isascii() and value.isdigit() else None


def _phrase(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return ""


def _error(uri: str, reason: str, status: int | None = None) -> MediaError:
    fix = "check the URI and its permissions"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        fix += "; if it is a signed URL that has expired, start a run with a new one, which reuses finished work"
    message = f"{public_uri(uri)}: cannot be fetched ({redact(reason, uri)}); {fix}"
    return MediaError("media_not_found", message, retryable=True)
