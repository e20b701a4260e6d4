"""Who is asking, and what it may do. Keys are 192 random bits, kept as their SHA-256 alone."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api.clock import now
from api.database import Account, ApiKey, Database
from api.errors import ApiError
from api.ids import new_id

KEY_FORM: Final = re.compile(r"sk_live_[0-9a-f]{48}")
SCOPES: Final = ("search", "read", "write", "admin")  # each includes those before it
_SEEN_EVERY: Final = timedelta(seconds=60)  # `last_used_at` is written at most this often


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request."""

    account_id: str
    key_id: str
    scopes: tuple[str, ...]

    def may(self, scope: str) -> bool:
        """Whether a scope is among the caller's, or included in one of them."""
        return any(SCOPES.index(held) >= SCOPES.index(scope) for held in self.scopes)


def hash_key(key: str) -> str:
    """What is kept of a key. It is random, so a plain hash is enough: there is no word to guess."""
    return hashlib.sha256(key.encode()).hexdigest()


def create_key(
    session: Session, account_id: str, name: str, scopes: list[str], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Creates a key; the secret that is returned beside it is kept nowhere."""
    secret = f"sk_live_{secrets.token_hex(24)}"
    record = ApiKey(
        key_id=new_id("key"),
        account_id=account_id,
        name=name,
        key_hash=hash_key(secret),
        key_prefix=secret[:16],
        scopes=scopes,
        created_at=now(),
        expires_at=expires_at,
    )
    session.add(record)
    session.flush()
    return record, secret


def create_account(session: Session, name: str) -> Account:
    """Creates an account."""
    account = Account(account_id=new_id("user"), name=name, created_at=now())
    session.add(account)
    session.flush()
    return account


def authenticate(database: Database, request: Request) -> Principal:
    """The caller of a request, by `X-API-Key` or else by a bearer token.

    Raises:
        ApiError: 401 where there is no key, or it is unknown, revoked or expired.
    """
    key = _key_of(request)
    if key is None:
        raise ApiError(401, "authentication_required", "Send an API key in X-API-Key.")
    refused = ApiError(401, "invalid_api_key", "This API key is unknown, revoked or expired.")
    if not KEY_FORM.fullmatch(key):
        raise refused
    with database.read() as session:
        found = session.execute(
            select(
                ApiKey.key_id,
                ApiKey.account_id,
                ApiKey.scopes,
                ApiKey.revoked_at,
                ApiKey.expires_at,
                ApiKey.last_used_at,
            ).where(ApiKey.key_hash == hash_key(key))
        ).one_or_none()
    if found is None or found.revoked_at is not None or _has_passed(found.expires_at):
        raise refused
    if found.last_used_at is None or _age(found.last_used_at) > _SEEN_EVERY:
        with database.write() as session:
            session.execute(update(ApiKey).where(ApiKey.key_id == found.key_id).values(last_used_at=now()))
    return Principal(found.account_id, found.key_id, tuple(found.scopes))


def check_scope(caller: Principal, scope: str) -> None:
    """Refuses a caller without a scope.

    Raises:
        ApiError: 403.
    """
    if not caller.may(scope):
        message = f"This needs the scope '{scope}'; the key holds {', '.join(caller.scopes)}."
        raise ApiError(403, "authorization_insufficient_scope", message, {"required_scope": scope})


def requires(scope: str | None) -> Callable[[Request], Principal]:
    """A dependency that gives the caller, who must hold a scope (None asks for any valid key).

    A plain function over the request's state: it takes no parameters that would appear in the API's description.
    """

    def principal(request: Request) -> Principal:
        state: Any = request.app.state
        caller = authenticate(state.database, request)
        if scope is not None:
            check_scope(caller, scope)
        state.rate_limiter.take(caller.account_id, category_of(request, scope))
        return caller

    return principal


AnyCaller = Annotated[Principal, Depends(requires(None))]
Searcher = Annotated[Principal, Depends(requires("search"))]
Reader = Annotated[Principal, Depends(requires("read"))]
Writer = Annotated[Principal, Depends(requires("write"))]
Admin = Annotated[Principal, Depends(requires("admin"))]


def category_of(request: Request, scope: str | None) -> str:
    """The rate limit's category of a request."""
    if request.url.path.endswith("/videos/upload"):
        return "upload"
    return {"search": "search", "read": "read", None: "read"}.get(scope, "write")


def _key_of(request: Request) -> str | None:
    key = request.headers.get("x-api-key")
    if key is not None:
        return key.strip()
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


def _has_passed(moment: datetime | None) -> bool:
    return moment is not None and _age(moment) >= timedelta(0)


def _age(moment: datetime) -> timedelta:
    current = now()
    return current - (moment if moment.tzinfo is not None else moment.replace(tzinfo=current.tzinfo))
