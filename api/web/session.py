"""Sessions of browsers: a signed cookie that names the hash of an API key, and the tokens of its forms.

A session has no state of its own: it ends when its key is revoked or expires, and is valid on every replica. Only pages
accept it; the API accepts keys in headers only, which another site cannot make a browser send.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from fastapi import Request, Response
from itsdangerous import BadSignature, Signer, TimestampSigner

SESSION_COOKIE: Final = "promptreel_session"
FORM_COOKIE: Final = "promptreel_form"  # binds the form that signs in, before there is a session
LIFETIME_S: Final = 7 * 86_400
TOKEN_FIELD: Final = "form_token"
_SESSION_SALT: Final = "promptreel.session"
_FORM_SALT: Final = "promptreel.form"


def start_session(request: Request, response: Response, key_hash: str) -> None:
    """Sign a browser in with the key that has this hash."""
    _set_cookie(request, response, _cookie(request), _session_signer(request).sign(key_hash).decode(), LIFETIME_S)


def end_session(request: Request, response: Response) -> None:
    """Sign a browser out."""
    response.delete_cookie(_cookie(request), path="/", secure=_is_secure(request), httponly=True, samesite="strict")


def session_key_hash(request: Request) -> str | None:
    """Return the hash of the key that a browser has signed in with; None without a valid session."""
    try:
        return _session_signer(request).unsign(request.cookies.get(_cookie(request), ""), max_age=LIFETIME_S).decode()
    except (BadSignature, UnicodeError):
        return None


def start_form(request: Request, response: Response) -> str:
    """Bind a form without a session to the browser by a cookie; return the token of the form."""
    nonce = request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(24)
    _set_cookie(request, response, FORM_COOKIE, nonce, LIFETIME_S)
    return _token(request, nonce)


def form_token(request: Request) -> str:
    """Return the token that the forms of this session carry; empty without a session."""
    session = request.cookies.get(_cookie(request))
    return _token(request, session) if session else ""


def is_form_token(request: Request, token: str) -> bool:
    """Whether a form was made for this browser: for its session, or, before it has one, for its form cookie."""
    bound_to = request.cookies.get(_cookie(request)) or request.cookies.get(FORM_COOKIE)
    return bool(bound_to) and hmac.compare_digest(_token(request, bound_to or "").encode(), token.encode())


def _session_signer(request: Request) -> TimestampSigner:
    return TimestampSigner(_secret(request), _SESSION_SALT, key_derivation="hmac", digest_method=hashlib.sha256)


def _token(request: Request, bound_to: str) -> str:
    signer = Signer(_secret(request), _FORM_SALT, key_derivation="hmac", digest_method=hashlib.sha256)
    return signer.get_signature(bound_to.encode("utf-8", "replace")).decode()


def _set_cookie(request: Request, response: Response, name: str, value: str, max_age_s: int) -> None:
    secure = _is_secure(request)
    response.set_cookie(name, value, max_age=max_age_s, path="/", secure=secure, httponly=True, samesite="strict")


def _cookie(request: Request) -> str:
    """Return the name of the session's cookie. Browsers send cookies to all ports of a host, so a second service on this
    machine has another name."""
    return request.app.state.session_cookie  # type: ignore[no-any-return]


def _is_secure(request: Request) -> bool:
    """Whether the browser reached the service over HTTPS, directly or through a proxy."""
    return request.url.scheme == "https" or request.app.state.config.public_url.startswith("https://")


def _secret(request: Request) -> bytes:
    return request.app.state.link_secret  # type: ignore[no-any-return]
