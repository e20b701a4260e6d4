"""Authentication and scopes. API keys are 192 random bits; only their SHA-256 is stored."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from promptreel.api.db.clock import now
from promptreel.api.db.engine import Database
from promptreel.api.db.ids import new_id
from promptreel.api.db.models import Account, ApiKey
from promptreel.api.web.errors import ApiError
from promptreel.api.web.paths import is_page
from promptreel.api.web.session import session_key_hash

_log = logging.getLogger(__name__)

KEY_PATTERN: Final = re.compile(r"sk_live_[0-9a-f]{48}")
SCOPES: Final = ("search", "read", "write", "admin")  # each includes those before it
_LAST_USED_INTERVAL: Final = timedelta(seconds=60)  # minimum time between updates of `last_used_at`
_CACHE_LIFETIME_S: Final = 1.0
_MAX_CACHED_KEYS: Final = 10_000
_MAX_LOOKUPS: Final = 10  # concurrent, in threads reserved for lookups


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller."""

    account_id: str
    key_id: str
    scopes: tuple[str, ...]

    def has_scope(self, scope: str) -> bool:
        """Whether the caller's scopes contain or include a scope."""
        return any(SCOPES.index(held) >= SCOPES.index(scope) for held in self.scopes)


class KnownKeys:
    """Cache of callers by key hash, for one second, so that a burst of requests needs one database lookup.

    A key revoked by this process is rejected at once, a key revoked by another process within that second. Thread-safe.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._callers: dict[str, tuple[float, Principal]] = {}
        self._generation = 0
        self._lock = threading.Lock()
        self.lookup_limiter = CapacityLimiter(_MAX_LOOKUPS)

    @property
    def generation(self) -> int:
        """Number that rises with each `clear`; read it before looking up a key."""
        return self._generation

    def find(self, key_hash: str) -> Principal | None:
        """Return the cached caller of a key; None if not cached."""
        until, caller = self._callers.get(key_hash, (0.0, None))
        return caller if self._clock() < until else None

    def store(self, key_hash: str, caller: Principal, generation: int) -> None:
        """Cache a caller; do nothing if the cache was cleared after `generation` was read."""
        with self._lock:
            if generation != self._generation:
                return
            if len(self._callers) >= _MAX_CACHED_KEYS:
                self._callers.clear()
            self._callers[key_hash] = (self._clock() + _CACHE_LIFETIME_S, caller)

    def clear(self) -> None:
        """Drop all entries, because a key was revoked, rotated or deleted."""
        with self._lock:
            self._generation += 1
            self._callers.clear()


def hash_key(key: str) -> str:
    """Hash a key for storage. Keys are random, so a plain hash resists guessing."""
    return hashlib.sha256(key.encode()).hexdigest()


def create_key(
    session: Session, account_id: str, name: str, scopes: list[str], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Create a key; return it with its secret, which is not stored."""
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
    """Create an account."""
    account = Account(account_id=new_id("user"), name=name, created_at=now())
    session.add(account)
    session.flush()
    return account


def authenticate(request: Request) -> Principal:
    """Authenticate a request of the API by `X-API-Key` or a bearer token, and a request for a page by its session.

    Raises:
        ApiError: 401 if the key is missing, unknown, revoked or expired.
    """
    return authenticate_hash(request, key_hash_of(request))


def authenticate_hash(request: Request, key_hash: str) -> Principal:
    """Authenticate the caller whose key has this hash; see `authenticate`."""
    known: KnownKeys = request.app.state.known_keys
    caller = known.find(key_hash)
    if caller is None:
        generation = known.generation
        caller, expires_at = _load_caller(request.app.state.database, key_hash)
        if expires_at is None or _age(expires_at) < -timedelta(seconds=_CACHE_LIFETIME_S):
            known.store(key_hash, caller, generation)
    return caller


def _load_caller(database: Database, key_hash: str) -> tuple[Principal, datetime | None]:
    with database.read() as session:
        found = session.execute(
            select(
                ApiKey.key_id,
                ApiKey.account_id,
                ApiKey.scopes,
                ApiKey.revoked_at,
                ApiKey.expires_at,
                ApiKey.last_used_at,
            ).where(ApiKey.key_hash == key_hash)
        ).one_or_none()
    if found is None or found.revoked_at is not None or _is_past(found.expires_at):
        raise _invalid_key()
    if found.last_used_at is None or _age(found.last_used_at) > _LAST_USED_INTERVAL:
        _update_last_used(database, found.key_id)
    return Principal(found.account_id, found.key_id, tuple(found.scopes)), found.expires_at


def _update_last_used(database: Database, key_id: str) -> None:
    """Update the time of a key's last use. Failures are only logged, so that a full disk does not block reads."""
    try:
        with database.write() as session:
            session.execute(update(ApiKey).where(ApiKey.key_id == key_id).values(last_used_at=now()))
    except SQLAlchemyError as error:
        _log.warning("cannot update the last use of key %s: %s", key_id, error)


async def identify(request: Request) -> Principal:
    """Authenticate a request from a coroutine; uses a thread only for a database lookup. See `authenticate`."""
    known: KnownKeys = request.app.state.known_keys
    caller = known.find(key_hash_of(request))
    if caller is not None:
        return caller
    return await to_thread.run_sync(authenticate, request, limiter=known.lookup_limiter)


def check_scope(caller: Principal, scope: str) -> None:
    """Check that a caller has a scope.

    Raises:
        ApiError: 403 if it does not.
    """
    if not caller.has_scope(scope):
        message = f"The scope '{scope}' is required; the key has {', '.join(caller.scopes)}."
        raise ApiError(403, "authorization_insufficient_scope", message, {"required_scope": scope})


def authorize(request: Request, scope: str | None) -> Principal:
    """Authenticate a request, check its scope (None accepts any valid key) and count it against its rate limit.

    Raises:
        ApiError: 401, 403 or 429.
    """
    return _authorize(request, authenticate(request), scope)


def _authorize(request: Request, caller: Principal, scope: str | None) -> Principal:
    request.state.caller = caller
    if scope is not None:
        check_scope(caller, scope)
    request.app.state.rate_limiter.take(caller.account_id, _rate_category(request, scope))
    return caller


def requires(scope: str | None) -> Callable[[Request], Awaitable[Principal]]:
    """Return a dependency that authorizes the caller; see `authorize`.

    Its only parameter is the request, so it adds none to the OpenAPI description.
    """

    async def principal(request: Request) -> Principal:
        return _authorize(request, await identify(request), scope)

    return principal


async def _known_caller(request: Request) -> Principal | None:
    with contextlib.suppress(ApiError):
        request.state.caller = await identify(request)
        return request.state.caller  # type: ignore[no-any-return]
    return None


KnownCaller = Annotated[Principal | None, Depends(_known_caller)]  # of a page that needs no key; its navigation does
AnyCaller = Annotated[Principal, Depends(requires(None))]
Searcher = Annotated[Principal, Depends(requires("search"))]
Reader = Annotated[Principal, Depends(requires("read"))]
Writer = Annotated[Principal, Depends(requires("write"))]
Admin = Annotated[Principal, Depends(requires("admin"))]


def _rate_category(request: Request, scope: str | None) -> str:
    """Return the rate-limit category of a request."""
    if request.url.path.endswith("/videos/upload") or (request.url.path == "/upload" and request.method == "POST"):
        return "upload"
    return {"search": "search", "read": "read", None: "read"}.get(scope, "write")


def key_hash_of(request: Request) -> str:
    """Return the hash of the API key of a request without checking that the key exists.

    Raises:
        ApiError: 401 if the key is missing or malformed, or the session is missing, invalid or too old.
    """
    if not is_page(request.url.path):
        return hash_key(api_key_of(request))
    if (key_hash := session_key_hash(request)) is None:
        raise ApiError(401, "authentication_required", "Sign in with an API key.")
    return key_hash


def api_key_of(request: Request) -> str:
    """Return the API key in a request without checking that it exists.

    Raises:
        ApiError: 401 if the key is missing or malformed.
    """
    key = request.headers.get("x-api-key")
    if key is None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        key = token if kind.lower() == "bearer" else ""
        if not key.strip():
            raise ApiError(401, "authentication_required", "The API key is missing; send it in X-API-Key.")
    key = key.strip()
    if not KEY_PATTERN.fullmatch(key):
        raise _invalid_key()
    return key


def _invalid_key() -> ApiError:
    return ApiError(401, "invalid_api_key", "This API key is unknown, revoked or expired.")


def _is_past(instant: datetime | None) -> bool:
    return instant is not None and _age(instant) >= timedelta(0)


def _age(instant: datetime) -> timedelta:
    current = now()
    return current - (instant if instant.tzinfo is not None else instant.replace(tzinfo=current.tzinfo))
