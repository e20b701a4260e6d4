"""Who is asking, and what it may do. Keys are 192 random bits, kept as their SHA-256 alone."""

from __future__ import annotations

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

_log = logging.getLogger(__name__)

KEY_FORM: Final = re.compile(r"sk_live_[0-9a-f]{48}")
SCOPES: Final = ("search", "read", "write", "admin")  # each includes those before it
_SEEN_EVERY: Final = timedelta(seconds=60)  # `last_used_at` is written at most this often
_KNOWN_FOR_S: Final = 1.0
_MAX_KNOWN: Final = 10_000
_LOOK_UPS: Final = 10  # at once, in threads that nothing else may take


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request."""

    account_id: str
    key_id: str
    scopes: tuple[str, ...]

    def may(self, scope: str) -> bool:
        """Whether a scope is among the caller's, or included in one of them."""
        return any(SCOPES.index(held) >= SCOPES.index(scope) for held in self.scopes)


class KnownKeys:
    """The callers whose keys were looked up within the last second, so that a burst of requests asks the database once.

    A key that this process revokes is refused at once, one that another process revokes within that second. Thread-safe.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._callers: dict[str, tuple[float, Principal]] = {}
        self._generation = 0
        self._lock = threading.Lock()
        self.turns = CapacityLimiter(_LOOK_UPS)

    @property
    def generation(self) -> int:
        """Rises whenever everything is forgotten; to be read before a key is looked up."""
        return self._generation

    def find(self, key_hash: str) -> Principal | None:
        """The caller with this key, where it was looked up just now."""
        until, caller = self._callers.get(key_hash, (0.0, None))
        return caller if self._clock() < until else None

    def keep(self, key_hash: str, caller: Principal, generation: int) -> None:
        """Keeps a caller that was looked up under this generation; one that is outdated by now is not kept."""
        with self._lock:
            if generation != self._generation:
                return
            if len(self._callers) >= _MAX_KNOWN:
                self._callers.clear()
            self._callers[key_hash] = (self._clock() + _KNOWN_FOR_S, caller)

    def forget(self) -> None:
        """Forgets everyone: a key was revoked, exchanged or deleted."""
        with self._lock:
            self._generation += 1
            self._callers.clear()


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


def authenticate(request: Request) -> Principal:
    """The caller of a request, by `X-API-Key` or else by a bearer token.

    Raises:
        ApiError: 401 where there is no key, or it is unknown, revoked or expired.
    """
    key_hash = hash_key(shown_key(request))
    known: KnownKeys = request.app.state.known_keys
    caller = known.find(key_hash)
    if caller is None:
        generation = known.generation
        caller, expires_at = _look_up(request.app.state.database, key_hash)
        if expires_at is None or _age(expires_at) < -timedelta(seconds=_KNOWN_FOR_S):
            known.keep(key_hash, caller, generation)
    return caller


def _look_up(database: Database, key_hash: str) -> tuple[Principal, datetime | None]:
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
    if found is None or found.revoked_at is not None or _has_passed(found.expires_at):
        raise _refused()
    if found.last_used_at is None or _age(found.last_used_at) > _SEEN_EVERY:
        _note_use(database, found.key_id)
    return Principal(found.account_id, found.key_id, tuple(found.scopes)), found.expires_at


def _note_use(database: Database, key_id: str) -> None:
    """Writes down that a key was used, where that can be written: a full disk does not keep anyone from reading."""
    try:
        with database.write() as session:
            session.execute(update(ApiKey).where(ApiKey.key_id == key_id).values(last_used_at=now()))
    except SQLAlchemyError as error:
        _log.warning("the last use of key %s cannot be written: %s", key_id, error)


async def identify(request: Request) -> Principal:
    """The same as `authenticate` for coroutines: it takes a thread only where the database must be asked."""
    known: KnownKeys = request.app.state.known_keys
    caller = known.find(hash_key(shown_key(request)))
    return caller if caller is not None else await to_thread.run_sync(authenticate, request, limiter=known.turns)


def check_scope(caller: Principal, scope: str) -> None:
    """Refuses a caller without a scope.

    Raises:
        ApiError: 403.
    """
    if not caller.may(scope):
        message = f"This needs the scope '{scope}'; the key holds {', '.join(caller.scopes)}."
        raise ApiError(403, "authorization_insufficient_scope", message, {"required_scope": scope})


def admit(request: Request, scope: str | None) -> Principal:
    """The caller of a request, who must hold a scope (None asks for any valid key), counted against its rate limit.

    Raises:
        ApiError: 401, 403 or 429.
    """
    return _admitted(request, authenticate(request), scope)


def _admitted(request: Request, caller: Principal, scope: str | None) -> Principal:
    if scope is not None:
        check_scope(caller, scope)
    request.app.state.rate_limiter.take(caller.account_id, category_of(request, scope))
    return caller


def requires(scope: str | None) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency that gives the caller; see `admit`.

    It takes no parameters that would appear in the API's description.
    """

    async def principal(request: Request) -> Principal:
        return _admitted(request, await identify(request), scope)

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


def shown_key(request: Request) -> str:
    """The key that a request shows, whether it is known or not.

    Raises:
        ApiError: 401 where there is none, or it has not the form of one.
    """
    key = request.headers.get("x-api-key")
    if key is None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        key = token if kind.lower() == "bearer" else ""
        if not key.strip():
            raise ApiError(401, "authentication_required", "Send an API key in X-API-Key.")
    key = key.strip()
    if not KEY_FORM.fullmatch(key):
        raise _refused()
    return key


def _refused() -> ApiError:
    return ApiError(401, "invalid_api_key", "This API key is unknown, revoked or expired.")


def _has_passed(moment: datetime | None) -> bool:
    return moment is not None and _age(moment) >= timedelta(0)


def _age(moment: datetime) -> timedelta:
    current = now()
    return current - (moment if moment.tzinfo is not None else moment.replace(tzinfo=current.tzinfo))
