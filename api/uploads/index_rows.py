"""Indexes in the database: finding a caller's own."""

from __future__ import annotations

from sqlalchemy.orm import Session

from promptreel.api.db.models import MediaIndex
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import not_found


def owned_index(
    session: Session,
    caller: Principal,
    index_id: str,
    *,
    deleted_too: bool = False,
    lock: dict[str, bool] | None = None,
) -> MediaIndex:
    """The caller's index of that id.

    Args:
        lock: how its row is locked until the end of the transaction: {} for its deletion, {"read": True} so that nobody
            deletes it meanwhile. SQLite has one writer anyway.

    Raises:
        ApiError: 404, also where it is another account's or deleted.
    """
    record = session.get(MediaIndex, index_id, with_for_update=lock)
    if record is None or record.account_id != caller.account_id or (record.deletion_id and not deleted_too):
        raise not_found("index", index_id)
    return record
