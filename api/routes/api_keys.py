"""Routes of API keys: create, list, get, delete, revoke, rotate."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import now, required_time, wire_time
from promptreel.api.db.engine import Database
from promptreel.api.db.models import ApiKey
from promptreel.api.web.auth import Admin, Principal, create_key
from promptreel.api.web.dependencies import Db
from promptreel.api.web.errors import ApiError, not_found
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.wire.accounts import ApiKeyBody, CreateApiKey, NewApiKey, RotatedApiKey
from promptreel.schemas.wire.common import Message

router = APIRouter(prefix="/api-keys", tags=["api-keys"], route_class=ApiRoute)


@router.post("", status_code=201, response_model=NewApiKey)
def create_api_key(body: CreateApiKey, caller: Admin, database: Db) -> JsonResponse:
    """Create an API key. Only this response contains its secret."""
    return JsonResponse(new_key(database, caller, body), status_code=201)


@router.get("", response_model=list[ApiKeyBody])
def list_api_keys(caller: Admin, database: Db) -> JsonResponse:
    """List API keys, including revoked ones, newest first."""
    with database.read() as session:
        return JsonResponse(key_bodies(session, caller))


@router.get("/{key_id}", response_model=ApiKeyBody)
def get_api_key(key_id: str, caller: Admin, database: Db) -> JsonResponse:
    """Get an API key, without its secret."""
    with database.read() as session:
        return JsonResponse(key_body(owned_key(session, caller, key_id)))


@router.delete("/{key_id}", response_model=Message)
def delete_api_key(key_id: str, caller: Admin, database: Db, request: Request) -> JsonResponse:
    """Delete an API key permanently."""
    with database.write() as session:
        session.delete(owned_key(session, caller, key_id, to_write=True))
    request.app.state.known_keys.clear()
    return JsonResponse({"message": f"Key {key_id} is deleted."})


@router.post("/{key_id}/revoke", response_model=ApiKeyBody)
def revoke_api_key(key_id: str, caller: Admin, database: Db, request: Request) -> JsonResponse:
    """Revoke an API key. It stays in the list."""
    return JsonResponse(revoke_key(request, database, caller, key_id))


@router.post("/{key_id}/rotate", response_model=RotatedApiKey)
def rotate_api_key(key_id: str, caller: Admin, database: Db, request: Request) -> JsonResponse:
    """Revoke an API key and create a replacement with the same name, scopes and expiry."""
    with database.write() as session:
        old = owned_key(session, caller, key_id, to_write=True)
        if old.revoked_at is not None:
            raise ApiError(409, "key_revoked", "This API key is revoked; create a new one.", {"key_id": key_id})
        old.revoked_at = now()
        record, secret = create_key(session, caller.account_id, old.name, list(old.scopes), old.expires_at)
        body = {"old_key_id": key_id, "new_key": {**key_body(record), "key": secret}}
    request.app.state.known_keys.clear()
    return JsonResponse(body)


def new_key(database: Database, caller: Principal, body: CreateApiKey) -> dict[str, Any]:
    """Create a key of the caller's account; return it with its secret."""
    expires_at = None if body.expires_in_days is None else now() + timedelta(days=body.expires_in_days)
    with database.write() as session:
        record, secret = create_key(session, caller.account_id, body.name, list(dict.fromkeys(body.scopes)), expires_at)
        return {**key_body(record), "key": secret}


def revoke_key(request: Request, database: Database, caller: Principal, key_id: str) -> dict[str, Any]:
    """Revoke a key, also one that is revoked already; return it.

    Raises:
        ApiError: 404 if it does not exist.
    """
    with database.write() as session:
        record = owned_key(session, caller, key_id, to_write=True)
        record.revoked_at = record.revoked_at or now()
        body = key_body(record)
    request.app.state.known_keys.clear()
    return body


def key_bodies(session: Session, caller: Principal) -> list[dict[str, Any]]:
    """Return the keys of the caller's account, newest first; see `key_body`."""
    keys = select(ApiKey).where(ApiKey.account_id == caller.account_id)
    records = session.scalars(keys.order_by(ApiKey.created_at.desc(), ApiKey.key_id.desc())).all()
    return [key_body(record) for record in records]


def key_body(record: ApiKey) -> dict[str, Any]:
    """Render an API key as JSON values, without its secret."""
    expires = wire_time(record.expires_at)
    return {
        "key_id": record.key_id,
        "key_prefix": record.key_prefix,
        "name": record.name,
        "scopes": record.scopes,
        "created_at": required_time(record.created_at),
        "last_used_at": wire_time(record.last_used_at),
        "revoked_at": wire_time(record.revoked_at),
        "expires_at": expires,
        "is_active": record.revoked_at is None and (expires is None or expires > required_time(now())),
    }


def owned_key(session: Session, caller: Principal, key_id: str, *, to_write: bool = False) -> ApiKey:
    """Return a key of the caller's account.

    Args:
        to_write: lock the row until the transaction ends.

    Raises:
        ApiError: 404 if it does not exist or belongs to another account.
    """
    record = session.get(ApiKey, key_id, with_for_update=to_write)
    if record is None or record.account_id != caller.account_id:
        raise not_found("key", key_id)
    return record
