"""Look up indexes in the database."""

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
