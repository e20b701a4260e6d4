"""Indexes in the database: add, look up."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.orm import Session

from promptreel.api.db.clock import now
from promptreel.api.db.ids import new_id
from promptreel.api.db.models import MediaIndex
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import none_found, not_found
from promptreel.schemas.wire.indexes import CreateIndex


def add_index(session: Session, caller: Principal, body: CreateIndex) -> MediaIndex:
    """Add an index."""
    record = MediaIndex(
        index_id=new_id("idx"),
        account_id=caller.account_id,
        name=body.name,
        description=body.description,
        created_at=now(),
    )
    session.add(record)
    return record


def owned_index(
    session: Session,
    caller: Principal,
    index_id: str,
    *,
    deleted_too: bool = False,
    lock: dict[str, bool] | None = None,
) -> MediaIndex:
    """Return an index of the caller.

    Args:
        deleted_too: also return a deleted index.
        lock: lock the row until the transaction ends: {} to delete it, {"read": True} to prevent its deletion. No
            effect on SQLite, which has a single writer.

    Raises:
        ApiError: 404 if it does not exist, belongs to another account, or is deleted.
    """
    record = session.get(MediaIndex, index_id, with_for_update=lock)
    if record is None or record.account_id != caller.account_id or (record.deletion_id and not deleted_too):
        raise not_found("index", index_id)
    return record


def check_indexes(session: Session, caller: Principal, index_ids: Iterable[str | None]) -> None:
    """Check that all indexes exist; None stands for the playground.

    Raises:
        ApiError: 404 if some do not exist, belong to another account, or are deleted; it names them all.
    """
    unknown = []
    for index_id in dict.fromkeys(index_ids):
        record = session.get(MediaIndex, index_id) if index_id is not None else None
        if index_id is not None and (record is None or record.account_id != caller.account_id or record.deletion_id):
            unknown.append(index_id)
    if unknown:
        raise none_found("index", unknown)
